{{/* Parts that the admission policies share. */}}

{{/* Every memory of the ladder once, as people read it: 512Mi, 1Gi, 2Gi. */}}
{{- define "longtask.policies.memories" -}}
{{- $memories := list -}}
{{- range $rung := include "longtask.ladder" . | splitList ";" -}}
{{- $memories = concat $memories ($rung | splitList "=" | last | splitList ",") -}}
{{- end -}}
{{- $memories | uniq | join ", " -}}
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

{{/* What stands under longtask.dev/ in labels and annotations, and Kueue's queue, new and old, as two lists of text. */}}
{{- define "longtask.policies.ourMetadata" -}}
{{- range $name, $object := dict "ours" "object" "oldOurs" "oldObject" }}
- name: {{ $name }}
  expression: >-
    {{ $object }} == null ? [] :
    (!has({{ $object }}.metadata.labels) ? [] : {{ $object }}.metadata.labels.filter(key,
    key.startsWith('longtask.dev/') || key == 'kueue.x-k8s.io/queue-name').map(key, 'label ' + key + '=' + {{ $object }}.metadata.labels[key])) +
    (!has({{ $object }}.metadata.annotations) ? [] : {{ $object }}.metadata.annotations.filter(key,
    key.startsWith('longtask.dev/')).map(key, 'annotation ' + key + '=' + {{ $object }}.metadata.annotations[key]))
{{- end }}
{{- end -}}
