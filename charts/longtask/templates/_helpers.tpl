{{/* Names and labels that several templates share. */}}

{{- define "longtask.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of object names: the release's name, with the chart's name where it is not part of it. */}}
{{- define "longtask.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "longtask.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "longtask.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "longtask.selectorLabels" -}}
app.kubernetes.io/name: {{ include "longtask.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object. Objects that are not the operator override the component. */}}
{{- define "longtask.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "longtask.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/component" "operator"
  "app.kubernetes.io/part-of" "longtask"
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name (replace "+" "_" .Chart.Version)) -}}
{{- toYaml (merge $labels .Values.commonLabels) -}}
{{- end -}}

{{/* Labels of the chart's Jobs, so that no selector of the operator matches their pods. Takes (list $ component). */}}
{{- define "longtask.hookLabels" -}}
{{- $root := index . 0 -}}
{{- toYaml (merge (dict "app.kubernetes.io/component" (index . 1)) (include "longtask.labels" $root | fromYaml)) -}}
{{- end -}}

{{- define "longtask.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (printf "%s-operator" (include "longtask.fullname" .)) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The operator's user, as the API server names it in requests. */}}
{{- define "longtask.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "longtask.serviceAccountName" . }}
{{- end -}}

{{/* A full image reference. Takes (list image-values default-registry default-tag). */}}
{{- define "longtask.imageReference" -}}
{{- $image := index . 0 -}}
{{- $registry := default (index . 1) $image.registry -}}
{{- if $registry -}}{{ $registry }}/{{- end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default (index . 2) $image.tag }}{{- end -}}
{{- end -}}

{{- define "longtask.image" -}}
{{- include "longtask.imageReference" (list .Values.image "" .Chart.AppVersion) -}}
{{- end -}}

{{- define "longtask.sidecarImage" -}}
{{- include "longtask.imageReference" (list .Values.sidecar.image .Values.image.registry .Chart.AppVersion) -}}
{{- end -}}

{{/* Service without a selector; the leader writes its EndpointSlice. */}}
{{- define "longtask.reportsService" -}}
{{ include "longtask.fullname" . }}-reports
{{- end -}}

{{/* The ladder as one string, smallest cpu first: cpu=memory,memory;cpu=memory. */}}
{{- define "longtask.ladder" -}}
{{- $rungs := dict -}}
{{- range $cpu, $memories := .Values.ladder -}}
{{- $milli := hasSuffix "m" $cpu | ternary (trimSuffix "m" $cpu | int64) (mul (int64 $cpu) 1000) -}}
{{- $key := printf "%012d" $milli -}}
{{- if hasKey $rungs $key -}}
{{- $other := get $rungs $key | splitList "=" | first -}}
{{- fail (printf "ladder: %q and %q are the same CPU; keep one and set the other to null" $other $cpu) -}}
{{- end -}}
{{- $_ := set $rungs $key (printf "%s=%s" $cpu (join "," $memories)) -}}
{{- end -}}
{{- $sorted := list -}}
{{- range $key := keys $rungs | sortAlpha -}}
{{- $sorted = append $sorted (get $rungs $key) -}}
{{- end -}}
{{- join ";" $sorted -}}
{{- end -}}

{{/* The rules for inputs as one string: image=memory+percent%;image=memory+percent%. */}}
{{- define "longtask.inputRules" -}}
{{- $rules := list -}}
{{- range .Values.sizing.inputs.rules -}}
{{- $rules = append $rules (printf "%s=%s+%d%%" .image .base (int64 .percent)) -}}
{{- end -}}
{{- join ";" $rules -}}
{{- end -}}

{{/* Pod fields that the operator's pod and the chart's Jobs share. */}}
{{- define "longtask.podPlacement" -}}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
