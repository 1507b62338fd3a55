{{/*
Pod of a hook Job up to its environment: runs one script of files/scripts with the operator's image.
Takes (list $ name script); name is the one of its ServiceAccount and its ConfigMap.
*/}}
{{- define "longtask.hookPod" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
restartPolicy: Never
serviceAccountName: {{ $name }}
automountServiceAccountToken: true
enableServiceLinks: false
{{ include "longtask.podPlacement" $root }}
volumes:
  - {name: script, configMap: {name: {{ $name }}}}
containers:
  - name: script
    image: {{ include "longtask.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command: [python3, /script/{{ index . 2 }}]
    securityContext:
      {{- toYaml $root.Values.securityContext | nindent 6 }}
    resources:
      requests: {cpu: 10m, memory: 32Mi}
      limits: {memory: 128Mi}
    volumeMounts:
      - {name: script, mountPath: /script, readOnly: true}
{{- end -}}
