{{/* Names. */}}
{{- define "visit-consumer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "visit-consumer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "visit-consumer.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "visit-consumer.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "visit-consumer.selector" -}}
app.kubernetes.io/name: {{ include "visit-consumer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "visit-consumer.labels" -}}
{{ include "visit-consumer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visit-consumer.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "visit-consumer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The registry of a parent chart takes the place of the one in the repository, which has a dot or a port. */}}
{{- define "visit-consumer.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" . (regexReplaceAll "^[^/]*[.:][^/]*/" $repository "") -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "visit-consumer.imagePullSecrets" -}}
{{- range concat .Values.imagePullSecrets (default list .Values.global.imagePullSecrets) }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end -}}

{{- define "visit-consumer.port" -}}
{{- dig "http" "port" 8080 .Values.config | int -}}
{{- end -}}

{{/* The settings file, as JSON: it is YAML too, and Helm writes large integers in it without exponents.
     Called with a dict of root and owner (whether it is the migration's). */}}
{{- define "visit-consumer.settings" -}}
{{- $values := .root.Values -}}
{{- $config := deepCopy $values.config -}}
{{- $database := dig "database" dict $config -}}
{{- $user := ternary $values.database.ownerUser $values.database.user .owner -}}
{{- $secret := ternary $values.database.ownerExistingSecret $values.database.existingSecret .owner -}}
{{- $_ := set $database "conninfo" (printf "host=%s port=%d dbname=%s user=%s sslmode=%s" $values.database.host (int $values.database.port) $values.database.name $user $values.database.sslmode) -}}
{{- if $secret }}{{ $_ := set $database "password_file" "/run/secrets/visit-consumer/database/password" }}{{ end -}}
{{- if $values.database.caSecret }}{{ $_ := set $database "ca_file" "/run/secrets/visit-consumer/database/ca.crt" }}{{ end -}}
{{- with $values.database.targetSessionAttrs }}{{ $_ := set $database "conninfo" (printf "%s target_session_attrs=%s" $database.conninfo .) }}{{ end -}}
{{- if ternary $values.database.ownerCertificateSecret $values.database.certificateSecret .owner -}}
{{- $_ := set $database "conninfo" (printf "%s sslcert=/run/secrets/visit-consumer/database/user.crt sslkey=/run/secrets/visit-consumer/database/user.key" $database.conninfo) -}}
{{- end -}}
{{- $_ := set $config "database" $database -}}
{{- $security := dig "kafka" "security" dict $config -}}
{{- if not .owner -}}
{{- with $values.kafka -}}
{{- if .existingSecret }}{{ $_ := set $security "password_file" "/run/secrets/visit-consumer/kafka/password" }}{{ end -}}
{{- if .caSecret }}{{ $_ := set $security "ca_file" "/run/secrets/visit-consumer/kafka/ca.crt" }}{{ end -}}
{{- if .certificateSecret -}}
{{- $_ := set $security "certificate_file" "/run/secrets/visit-consumer/kafka/user.crt" -}}
{{- $_ := set $security "key_file" "/run/secrets/visit-consumer/kafka/user.key" -}}
{{- end -}}
{{- if .oauthSecret -}}
{{- $_ := set $security "oauth" (merge (dict "client_secret_file" "/run/secrets/visit-consumer/kafka/client-secret") (dig "oauth" dict $security)) -}}
{{- end -}}
{{- end -}}
{{- if $security }}{{ $_ := set $config "kafka" (merge (dict "security" $security) $config.kafka) }}{{ end -}}
{{- $registry := dig "registry" dict $config -}}
{{- if $values.registry.existingSecret }}{{ $_ := set $registry "password_file" "/run/secrets/visit-consumer/registry/password" }}{{ end -}}
{{- if $values.registry.caSecret }}{{ $_ := set $registry "ca_file" "/run/secrets/visit-consumer/registry/ca.crt" }}{{ end -}}
{{- if $registry }}{{ $_ := set $config "registry" $registry }}{{ end -}}
{{- $_ := set $config "http" (merge (dict "host" "0.0.0.0") (dig "http" dict $config)) -}}
{{- else -}}
{{- /* The migration reads the database's settings; Kafka's address is there because the settings require one. */ -}}
{{- $config = dict "database" $database "kafka" (dict "bootstrap_servers" $config.kafka.bootstrap_servers) "log" (dig "log" dict $config) -}}
{{- end -}}
{{- toPrettyJson $config -}}
{{- end -}}

{{/* The settings file of the emitters: as the service's, but with the Kafka user and the secrets of their own. */}}
{{- define "visit-consumer.sourceSettings" -}}
{{- $source := .Values.source -}}
{{- $config := omit (include "visit-consumer.settings" (dict "root" . "owner" false) | fromJson) "registry" "announce" -}}
{{- $_ := unset $config.database "password_file" -}}
{{- $_ := set $config.database "conninfo" (regexReplaceAll " ssl(cert|key)=[^ ]+" $config.database.conninfo "") -}}
{{- $_ := set $config.database "conninfo" (regexReplaceAll " user=[^ ]+" $config.database.conninfo (printf " user=%s" $source.scan.databaseUser)) -}}
{{- $security := dig "security" dict $config.kafka -}}
{{- with $source.kafka -}}
{{- if .username }}{{ $_ := set $security "username" .username }}{{ end -}}
{{- if .existingSecret }}{{ $_ := set $security "password_file" "/run/secrets/visit-consumer/kafka/password" }}{{ end -}}
{{- if .certificateSecret -}}
{{- $_ := set $security "certificate_file" "/run/secrets/visit-consumer/kafka/user.crt" -}}
{{- $_ := set $security "key_file" "/run/secrets/visit-consumer/kafka/user.key" -}}
{{- end -}}
{{- end -}}
{{- if $security }}{{ $_ := set $config.kafka "security" $security }}{{ end -}}
{{- $section := dig "source" dict $config -}}
{{- $listen := merge (dict "host" "0.0.0.0") (dig "listen" dict $section) -}}
{{- if $source.listen.existingSecret }}{{ $_ := set $listen "token_file" "/run/secrets/visit-consumer/source/token" }}{{ end -}}
{{- $_ := set $config "source" (merge (dict "listen" $listen) $section) -}}
{{- toPrettyJson $config -}}
{{- end -}}

{{/* The settings file of the Butler sink: it works from the tables alone, and needs no Kafka. */}}
{{- define "visit-consumer.sinkSettings" -}}
{{- $config := include "visit-consumer.settings" (dict "root" . "owner" false) | fromJson -}}
{{- $kafka := dict "bootstrap_servers" $config.kafka.bootstrap_servers -}}
{{- toPrettyJson (merge (dict "kafka" $kafka) (pick $config "database" "butler" "http" "log" "shutdown")) -}}
{{- end -}}

{{/* The settings file of the audit: the tables, the rules, and whether visits are announced. */}}
{{- define "visit-consumer.auditSettings" -}}
{{- $config := include "visit-consumer.settings" (dict "root" . "owner" false) | fromJson -}}
{{- $kafka := dict "bootstrap_servers" $config.kafka.bootstrap_servers -}}
{{- toPrettyJson (merge (dict "kafka" $kafka) (pick $config "database" "instruments" "closing" "announce" "obscore" "log")) -}}
{{- end -}}

{{- define "visit-consumer.sourcePort" -}}
{{- dig "source" "http_port" 8081 .Values.config | int -}}
{{- end -}}

{{- define "visit-consumer.listenPort" -}}
{{- dig "source" "listen" "port" 8082 .Values.config | int -}}
{{- end -}}

{{/* Which of the emitters' pods there are, by their component: as a list in JSON. */}}
{{- define "visit-consumer.sourceComponents" -}}
{{- $components := list -}}
{{- if .Values.source.enabled -}}
{{- $components = append $components "source" -}}
{{- if .Values.source.scan.url }}{{ $components = append $components "scan" }}{{ end -}}
{{- end -}}
{{- toJson $components -}}
{{- end -}}

{{/* Sources of the projected volume with every secret of a pod. Called with a dict of root and owner (whether it is the
     migration's), of root and emitter (its component), or of root and tables (true where the tables are all it needs). */}}
{{- define "visit-consumer.secretSources" -}}
{{- $values := .root.Values -}}
{{- $sources := list -}}
{{- if .owner -}}
{{- $sources = append $sources (list $values.database.ownerExistingSecret $values.database.ownerPasswordKey "database/password") -}}
{{- $sources = append $sources (list $values.database.ownerCertificateSecret $values.database.certificateKey "database/user.crt") -}}
{{- $sources = append $sources (list $values.database.ownerCertificateSecret $values.database.privateKeyKey "database/user.key") -}}
{{- else if .tables -}}
{{- $sources = append $sources (list $values.database.existingSecret $values.database.passwordKey "database/password") -}}
{{- else -}}
{{- $kafka := $values.kafka -}}
{{- if .emitter -}}
{{- $source := $values.source -}}
{{- if $source.kafka.existingSecret }}{{ $kafka = merge (pick $source.kafka "existingSecret" "passwordKey") $kafka }}{{ end -}}
{{- if $source.kafka.certificateSecret }}{{ $kafka = merge (pick $source.kafka "certificateSecret" "certificateKey" "privateKeyKey") $kafka }}{{ end -}}
{{- $sources = append $sources (list $source.s3.existingSecret $source.s3.credentialsKey "s3/credentials") -}}
{{- $sources = append $sources (list $source.s3.caSecret $source.s3.caKey "s3/ca.crt") -}}
{{- $sources = append $sources (list $source.listen.existingSecret $source.listen.tokenKey "source/token") -}}
{{- if eq .emitter "scan" -}}
{{- $sources = append $sources (list $source.scan.databaseExistingSecret $source.scan.databasePasswordKey "database/password") -}}
{{- end -}}
{{- else -}}
{{- $sources = append $sources (list $values.database.existingSecret $values.database.passwordKey "database/password") -}}
{{- $sources = append $sources (list $values.registry.existingSecret $values.registry.passwordKey "registry/password") -}}
{{- $sources = append $sources (list $values.registry.caSecret $values.registry.caKey "registry/ca.crt") -}}
{{- end -}}
{{- $sources = append $sources (list $kafka.existingSecret $kafka.passwordKey "kafka/password") -}}
{{- $sources = append $sources (list $kafka.caSecret $kafka.caKey "kafka/ca.crt") -}}
{{- $sources = append $sources (list $kafka.certificateSecret $kafka.certificateKey "kafka/user.crt") -}}
{{- $sources = append $sources (list $kafka.certificateSecret $kafka.privateKeyKey "kafka/user.key") -}}
{{- $sources = append $sources (list $kafka.oauthSecret $kafka.oauthKey "kafka/client-secret") -}}
{{- end -}}
{{- if not (or .owner .emitter) -}}
{{- $sources = append $sources (list $values.database.certificateSecret $values.database.certificateKey "database/user.crt") -}}
{{- $sources = append $sources (list $values.database.certificateSecret $values.database.privateKeyKey "database/user.key") -}}
{{- end -}}
{{- $sources = append $sources (list $values.database.caSecret $values.database.caKey "database/ca.crt") -}}
{{- range $sources -}}
{{- if index . 0 }}
- secret:
    name: {{ index . 0 }}
    items:
      - key: {{ index . 1 }}
        path: {{ index . 2 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every container may do: nothing. Not a value, so that no values file can loosen it. */}}
{{- define "visit-consumer.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Peers of an egress rule; none given means any address. */}}
{{- define "visit-consumer.to" -}}
{{- with . -}}
to:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* An egress rule. Called with a dict of ports and to. */}}
{{- define "visit-consumer.egress" -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with include "visit-consumer.to" .to }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "visit-consumer.databaseEgress" -}}
{{- include "visit-consumer.egress" (dict "ports" (list .Values.database.port) "to" .Values.networkPolicy.databaseTo) -}}
{{- end -}}

{{/* A NetworkPolicy. Called with a dict of root, suffix, components, ports (peers by the name of the port), egress (rules,
     beside those for DNS and the extra ones) and annotations. */}}
{{- define "visit-consumer.policy" -}}
{{- $policy := .root.Values.networkPolicy -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "visit-consumer.fullname" .root }}{{ .suffix }}
  labels:
    {{- include "visit-consumer.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "visit-consumer.selector" .root | nindent 6 }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ .components | toJson }}}
  policyTypes: [Ingress, Egress]
  {{- /* Without a rule nothing comes in. The server drops a list that is empty, and would see a change at each apply. */}}
  {{- $open := false }}
  {{- range $port, $peers := .ports }}
  {{- if $peers }}
  {{- if not $open }}
  {{- $open = true }}
  ingress:
  {{- end }}
    - from:
        {{- toYaml $peers | nindent 8 }}
      ports:
        - {port: {{ $port }}, protocol: TCP}
  {{- end }}
  {{- end }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
      {{- with include "visit-consumer.to" $policy.dnsTo }}
      {{- . | nindent 6 }}
      {{- end }}
    {{- .egress | nindent 4 }}
    {{- with $policy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Annotations of the migration's hooks. Called with a dict of root and weight. A hook is no part of the release: what
     succeeded is removed, or uninstalling would leave it behind. */}}
{{- define "visit-consumer.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation{{ if not .root.Values.migration.keep }},hook-succeeded{{ end }}
{{- with .root.Values.migration.annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Egress rules to the brokers, and to what gives tokens for them. */}}
{{- define "visit-consumer.kafkaEgress" -}}
- ports:
    {{- range concat (splitList "," .Values.config.kafka.bootstrap_servers) .Values.networkPolicy.kafkaExtraPorts | uniq }}
    {{- $port := regexFind "[0-9]+$" (toString .) }}
    - {port: {{ default "9092" $port }}, protocol: TCP}
    {{- end }}
  {{- with include "visit-consumer.to" .Values.networkPolicy.kafkaTo }}
  {{- . | nindent 2 }}
  {{- end }}
{{- with dig "kafka" "security" "oauth" "token_endpoint_url" "" .Values.config }}
- ports:
    - {port: {{ include "visit-consumer.urlPort" . }}, protocol: TCP}
  {{- with include "visit-consumer.to" $.Values.networkPolicy.oauthTo }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The port of a URL. */}}
{{- define "visit-consumer.urlPort" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "visit-consumer.check" -}}
{{- $shutdown := dig "shutdown" "timeout_s" 8 .Values.config | float64 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf $shutdown 5.0) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v: it must be at least config.shutdown.timeout_s (%v) + 5, or the kubelet kills a replica in the middle of its shutdown" .Values.terminationGracePeriodSeconds $shutdown) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if and (regexMatch "(?i)(password|secret|token|credential)" .name) (not (hasSuffix "_FILE" .name)) (hasKey . "value") -}}
{{- fail (printf "extraEnv %s: a secret must not stand in the values; name a Secret with valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- end -}}
{{- if and (or .Values.strimzi.topics.enabled .Values.strimzi.user.enabled) (not .Values.strimzi.cluster) -}}
{{- fail "strimzi.cluster: name the Kafka resource that the topics and the user belong to" -}}
{{- end -}}
{{- if and .Values.strimzi.sourceUser.enabled (not .Values.strimzi.cluster) -}}
{{- fail "strimzi.cluster: name the Kafka resource that the emitter's user belongs to" -}}
{{- end -}}
{{- if and .Values.butlerSink.enabled (not (dig "butler" "repository" "" .Values.config)) -}}
{{- fail "butlerSink.enabled is true, and config.butler.repository names no repository" -}}
{{- end -}}
{{- if .Values.source.enabled -}}
{{- $needed := ternary "folders" "buckets" (eq .Values.source.kind "watch") -}}
{{- if not (dig "source" $needed "" .Values.config) -}}
{{- fail (printf "source.kind is %s, and config.source.%s names none: name those that the emitter may read" .Values.source.kind $needed) -}}
{{- end -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- if gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas) -}}
{{- fail (printf "keda.minReplicas (%v) is above keda.maxReplicas (%v)" .Values.keda.minReplicas .Values.keda.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
