{{- define "latchkey.name" -}}
{{- if contains "latchkey" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-latchkey" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* Labels that select pods. Called with (list $ "gateway"). */}}
{{- define "latchkey.selector" -}}
app.kubernetes.io/name: latchkey
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "latchkey.labels" -}}
{{ include "latchkey.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end -}}

{{/* Called with (list $ "latchkey-redis"). */}}
{{- define "latchkey.image" -}}
{{- $image := (index . 0).Values.image -}}
{{ required "image.registry is required, such as ghcr.io/your-name/latchkey" $image.registry }}/{{ index . 1 }}:{{ default (index . 0).Chart.AppVersion $image.tag }}
{{- end -}}

{{- define "latchkey.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "latchkey.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Spreads replicas over nodes. Called with (list $ "gateway"). */}}
{{- define "latchkey.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "latchkey.selector" . | nindent 6 }}
{{- end -}}

{{/* The secrets of a service as files, and their names. Called with (list $ "gateway"). */}}
{{- define "latchkey.secretKeys" -}}
{{- $root := index . 0 -}}
{{- $keys := list "BUS_SECRET" -}}
{{- if eq (index . 1) "gateway" -}}
{{- $keys = append $keys "OPENCLAW_GATEWAY_TOKEN" -}}
{{- if $root.Values.upstream.url }}{{ $keys = append $keys "UPSTREAM_SECRET" }}{{ end -}}
{{- else -}}
{{- $keys = concat $keys (list "APPROVAL_ADMIN_TOKEN" "TOKEN_SECRET") -}}
{{- end -}}
{{- $keys = concat $keys (index $root.Values (index . 1)).optionalSecrets -}}
{{- if not $root.Values.redis.enabled }}{{ $keys = append $keys (printf "%s_REDIS_URL" (upper (index . 1))) }}{{ end -}}
{{ join " " $keys }}
{{- end -}}

{{/* A service's environment. Called with (list $ "gateway"). */}}
{{- define "latchkey.env" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $values := index $root.Values $service -}}
{{- $gateway := eq $service "gateway" -}}
{{- $own := dict "PORT" (ternary "18789" "18790" $gateway) "OPS_PORT" (ternary "18791" "18792" $gateway) -}}
{{- $_ := set $own "TRUSTED_PROXIES" (join "," $root.Values.trustedProxies) -}}
{{- $_ := set $own "GATEWAY_PUBLIC_URL" $root.Values.gatewayPublicUrl -}}
{{- $_ := set $own "APPROVAL_PUBLIC_URL" $root.Values.approvalPublicUrl -}}
{{- if $gateway -}}
{{- $_ := set $own "DRAIN_SECONDS" (toString $values.drainSeconds) -}}
{{- $_ := set $own "UPSTREAM_URL" $root.Values.upstream.url -}}
{{- end -}}
{{- range $name, $value := $own }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $value := $values.settings }}
{{- if hasKey $own $name }}{{ fail (printf "%s.settings.%s: the chart sets it; see values.yaml" $service $name) }}{{ end }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- range $key := splitList " " (include "latchkey.secretKeys" .) }}
- name: {{ $key | replace (printf "%s_REDIS_URL" (upper $service)) "REDIS_URL" }}_FILE
  value: /run/secrets/latchkey/{{ $key }}
{{- end }}
{{- if $root.Values.redis.enabled }}
{{- $password := printf "REDIS_%s_PASSWORD" (upper $service) }}
- name: {{ $password }}
  valueFrom:
    secretKeyRef:
      name: {{ $root.Values.secret.name }}
      key: {{ $password }}
- name: REDIS_URL
  value: "redis://{{ $service }}:$({{ $password }})@{{ include "latchkey.name" $root }}-redis:6379/0"
{{- end }}
{{- end -}}

{{/* What both services' pods have in common. Called with (list $ "gateway"). */}}
{{- define "latchkey.pod" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $values := index $root.Values $service -}}
{{- $gateway := eq $service "gateway" -}}
metadata:
  labels:
    {{- include "latchkey.labels" . | nindent 4 }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # preStop, the drain of a gateway or the 9 s that an approval may take, and some reserve.
  terminationGracePeriodSeconds: {{ ternary (add 5 ($values.drainSeconds | default 0 | ceil | int) 10) 25 $gateway }}
  securityContext:
    {{- include "latchkey.podSecurity" 10001 | nindent 4 }}
  topologySpreadConstraints:
    {{- include "latchkey.spread" . | nindent 4 }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $service }}
      image: {{ include "latchkey.image" (list $root "latchkey") }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [python, -m, services.{{ $service }}]
      env:
        {{- include "latchkey.env" . | nindent 8 }}
      ports:
        - {name: {{ $service }}, containerPort: {{ ternary 18789 18790 $gateway }}}
        - {name: ops, containerPort: {{ ternary 18791 18792 $gateway }}}
      startupProbe:
        httpGet: {path: /livez, port: ops}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: ops}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: ops}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      lifecycle:
        preStop:
          # Load balancers need a moment to learn that the pod is about to end; until then it serves.
          exec: {command: [sleep, "5"]}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "latchkey.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: secrets, mountPath: /run/secrets/latchkey, readOnly: true}
  volumes:
    - name: secrets
      secret:
        secretName: {{ $root.Values.secret.name }}
        defaultMode: 0440
        items:
          {{- range $key := splitList " " (include "latchkey.secretKeys" .) }}
          - {key: {{ $key }}, path: {{ $key }}}
          {{- end }}
{{- end -}}

{{/* Deployment, Service and PodDisruptionBudget. Called with (list $ "gateway"). */}}
{{- define "latchkey.service" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $values := index $root.Values $service -}}
{{- $name := printf "%s-%s" (include "latchkey.name" $root) $service -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "latchkey.labels" . | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  # One more first, then one less.
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "latchkey.selector" . | nindent 6 }}
  template:
    {{- include "latchkey.pod" . | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "latchkey.labels" . | nindent 4 }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  selector:
    {{- include "latchkey.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ ternary 18789 18790 (eq $service "gateway") }}, targetPort: {{ $service }}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "latchkey.labels" . | nindent 4 }}
spec:
  {{- toYaml $values.podDisruptionBudget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "latchkey.selector" . | nindent 6 }}
{{- end -}}
