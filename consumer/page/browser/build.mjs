// Bundles the page into ../static: `npm run build`. Names of assets carry a digest, so that browsers may keep them for ever.
import { readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { build } from "esbuild";

const output = new URL("../static/", import.meta.url).pathname;

await rm(output, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: ["source/main.jsx", "source/page.css"],
  outdir: `${output}assets`,
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  metafile: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof",
  logLevel: "warning",
});

const assets = Object.keys(metafile.outputs).map((path) => basename(path));
const named = (end) => `assets/${assets.find((name) => name.endsWith(end))}`;
const index = await readFile(new URL("source/index.html", import.meta.url), "utf8");
await writeFile(`${output}index.html`, index.replace("SCRIPT", named(".js")).replace("STYLE", named(".css")));
await writeFile(`${output}icon.svg`, await readFile(new URL("source/icon.svg", import.meta.url)));
