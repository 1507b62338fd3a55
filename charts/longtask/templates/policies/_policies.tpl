{{/* Parts that the admission policies share. */}}

{{/* Keys of .Values.ladder that are not switched off with null, smallest CPU first, as JSON. */}}
{{- define "longtask.policies.cpus" -}}
{{- $byMillicores := dict -}}
{{- range $cpu, $memories := .Values.ladder -}}
{{- if $memories -}}
{{- $millicores := hasSuffix "m" $cpu | ternary (trimSuffix "m" $cpu | float64) (mulf (float64 $cpu) 1000) -}}
{{- $_ := set $byMillicores (printf "%015.3f" $millicores) $cpu -}}
{{- end -}}
{{- end -}}
{{- $cpus := list -}}
{{- range $key := keys $byMillicores | sortAlpha -}}{{- $cpus = append $cpus (get $byMillicores $key) -}}{{- end -}}
{{- toJson $cpus -}}
{{- end -}}

{{/* .Values.ladder as one line, smallest CPU first: cpu=memory,memory;cpu=memory. */}}
{{- define "longtask.policies.ladder" -}}
{{- $rungs := list -}}
{{- range $cpu := include "longtask.policies.cpus" . | fromJsonArray -}}
{{- $rungs = append $rungs (printf "%s=%s" $cpu (join "," (get $.Values.ladder $cpu))) -}}
{{- end -}}
{{- join ";" $rungs -}}
{{- end -}}

{{/* Every memory of the ladder once, comma separated. */}}
{{- define "longtask.policies.memories" -}}
{{- $memories := list -}}
{{- range $cpu := include "longtask.policies.cpus" . | fromJsonArray -}}
{{- $memories = concat $memories (get $.Values.ladder $cpu) -}}
{{- end -}}
{{- $memories | uniq | join "," -}}
{{- end -}}

{{/* A binding that denies. Takes (list $ name). */}}
{{- define "longtask.policies.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "longtask.labels" (index . 0) | nindent 4 }}
spec:
  policyName: {{ index . 1 }}
  validationActions: [Deny]
{{- end -}}
