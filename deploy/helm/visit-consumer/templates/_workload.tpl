{{/* A Deployment, and the pod that every workload has. Both are called with a dict:

     root          the chart's root
     component     label app.kubernetes.io/component, which the selector has too
     suffix        end of its name; empty for the consumer
     container     name of the container
     args          of `visit-consumer`
     env, ports    of the container, lists of objects; ports may be empty
     settings      text of the settings file
     configMap     end of the name of the ConfigMap that holds it
     secrets       sources of the projected volume, as visit-consumer.secretSources writes them
     resources     of the container
     volumes, mounts   beside those of the whole chart
     replicas      of the Deployment; nil: not set
     job           whether the pod ends by itself: no probes, no restart, no sidecars
     bare          whether it runs before the rest of the chart exists: neither the chart's service account nor what the
                   values add to pods
     spread        whether it is spread over nodes and zones by .Values.topologySpread
*/}}
{{- define "visit-consumer.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "visit-consumer.fullname" $root }}{{ .suffix }}
  labels:
    {{- include "visit-consumer.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with $root.Values.deploymentAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $root.Values.revisionHistoryLimit }}
  minReadySeconds: {{ $root.Values.minReadySeconds }}
  strategy:
    {{- toYaml $root.Values.updateStrategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "visit-consumer.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    {{- include "visit-consumer.pod" . | nindent 4 }}
{{- end -}}

{{- define "visit-consumer.pod" -}}
{{- $root := .root -}}
{{- $values := deepCopy .root.Values -}}
{{- if .bare -}}
{{- range $key := list "extraEnv" "envFrom" "extraVolumes" "extraVolumeMounts" "initContainers" -}}
{{- $_ := set $values $key list -}}
{{- end -}}
{{- end -}}
metadata:
  labels:
    {{- include "visit-consumer.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .container }}
    checksum/config: {{ .settings | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if not (and .bare $values.serviceAccount.create) }}
  serviceAccountName: {{ include "visit-consumer.serviceAccount" $root }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if .job }}
  restartPolicy: Never
  {{- else }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- end }}
  {{- range $key := list "priorityClassName" "runtimeClassName" "dnsPolicy" }}
  {{- with index $values $key }}
  {{ $key }}: {{ . }}
  {{- end }}
  {{- end }}
  {{- with include "visit-consumer.imagePullSecrets" $root }}
  imagePullSecrets:
    {{- . | trim | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .container }}
      image: {{ include "visit-consumer.image" $root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: {{ .args | toJson }}
      env:
        # So that `kubectl exec ... -- visit-consumer status` finds it too.
        - name: VISIT_CONSUMER_CONFIG
          value: /etc/visit-consumer/config.yaml
        {{- with concat .env $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .ports }}
      ports:
        {{- range . }}
        - {name: {{ .name }}, containerPort: {{ .port }}, protocol: TCP}
        {{- end }}
      {{- end }}
      {{- if not .job }}
      startupProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml $values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml $values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        {{- toYaml $values.probes.readiness | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "visit-consumer.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/visit-consumer
          readOnly: true
        {{- if .secrets }}
        - name: secrets
          mountPath: /run/secrets/visit-consumer
          readOnly: true
        {{- end }}
        - name: tmp
          mountPath: /tmp
        {{- with concat $values.extraVolumeMounts .mounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- if not .job }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "visit-consumer.fullname" $root }}{{ .configMap }}
    {{- with .secrets }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- . | nindent 10 }}
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with concat $values.extraVolumes .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml $values.topologySpreadConstraints | nindent 4 }}
  {{- else if and .spread $values.topologySpread }}
  topologySpreadConstraints:
    {{- range $values.topologySpread }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "visit-consumer.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.component }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" }}
  {{- with index $values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* A ConfigMap with a settings file. Called with a dict of root, suffix, settings and annotations. */}}
{{- define "visit-consumer.settingsMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "visit-consumer.fullname" .root }}{{ .suffix }}
  labels:
    {{- include "visit-consumer.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
data:
  config.yaml: |
    {{- .settings | nindent 4 }}
{{- end -}}
