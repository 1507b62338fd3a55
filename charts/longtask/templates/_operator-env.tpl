{{/* Every setting of the operator. A contract test compares the names with longtask_operator/settings.py, both ways. */}}
{{- define "longtask.operatorEnv" -}}
- name: LONGTASK_OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: LONGTASK_OPERATOR_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: LONGTASK_OPERATOR_POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- $settings := list
  (list "LOG_LEVEL" .Values.log.level)
  (list "LOG_FORMAT" .Values.log.format)
  (list "LEASE_NAME" .Values.lease.name)
  (list "LEASE_DURATION_SECONDS" .Values.lease.durationSeconds)
  (list "LEASE_RENEW_DEADLINE_SECONDS" .Values.lease.renewDeadlineSeconds)
  (list "LEASE_RETRY_SECONDS" .Values.lease.retrySeconds)
  (list "WORKERS" .Values.workers)
  (list "API_CONNECTIONS" .Values.api.connections)
  (list "RELIST_SECONDS" .Values.api.relistSeconds)
  (list "LADDER" (include "longtask.ladder" .))
  (list "INPUT_RULES" (include "longtask.inputRules" .))
  (list "INPUT_URIS" (join "," .Values.sizing.inputs.uris))
  (list "INPUT_WAIT_SECONDS" .Values.sizing.inputs.waitSeconds)
  (list "HISTORY_DAYS" (int64 .Values.sizing.history.days))
  (list "HISTORY_QUANTILE_PERCENT" (int64 .Values.sizing.history.quantilePercent))
  (list "HISTORY_HEADROOM_PERCENT" (int64 .Values.sizing.history.headroomPercent))
  (list "LIVE_THRESHOLD_PERCENT" (int64 .Values.sizing.live.thresholdPercent))
  (list "TENANTS_UNLABELLED" .Values.tenants.unlabelled)
  (list "KUEUE" .Values.kueue.enabled)
  (list "CREATED_BY" (ternary .Values.createdBy.mode "Off" .Values.policies.enabled))
  (list "DEFAULT_CONCURRENCY" (int64 .Values.defaultTenantQuota.concurrency))
  (list "DEFAULT_CPU" .Values.defaultTenantQuota.cpu)
  (list "DEFAULT_MEMORY" .Values.defaultTenantQuota.memory)
  (list "ATTEMPT_RETENTION_SECONDS" (int64 .Values.attemptRetentionSeconds))
  (list "TERMINATION_GRACE_SECONDS" (int64 .Values.terminationGraceSeconds))
  (list "START_LIMIT_CONFIG_SECONDS" (int64 .Values.startLimits.configSeconds))
  (list "START_LIMIT_IMAGE_SECONDS" (int64 .Values.startLimits.imageSeconds))
  (list "START_LIMIT_CONTAINER_SECONDS" (int64 .Values.startLimits.containerSeconds))
  (list "CHECKPOINT_WAIT_SECONDS" (int64 .Values.stopping.checkpointWaitSeconds))
  (list "CANCEL_WAIT_SECONDS" (int64 .Values.stopping.cancelWaitSeconds))
  (list "EPHEMERAL_STORAGE_LIMIT" .Values.ephemeralStorageLimit)
  (list "IMAGE_PULL_POLICY" .Values.task.imagePullPolicy)
  (list "COPIED_LABELS" (join "," .Values.task.copiedLabels))
  (list "SIDECAR_IMAGE" (include "longtask.sidecarImage" .))
  (list "REPORT_PORT" .Values.reports.port)
  (list "REPORT_HOST" (printf "%s.%s.svc" (include "longtask.reportsService" .) .Release.Namespace))
  (list "REPORT_SERVICE" (include "longtask.reportsService" .))
  (list "REPORT_CERTIFICATE_DAYS" .Values.reports.certificateDays)
  (list "PROGRESS_INTERVAL_SECONDS" .Values.progress.intervalSeconds)
  (list "PROGRESS_WRITES_PER_SECOND" .Values.progress.writesPerSecond)
  (list "HTTP_PORT" .Values.metrics.port)
  (list "METRICS_MAX_TENANTS" .Values.metrics.maxTenants) }}
{{- range $settings }}
- {name: LONGTASK_OPERATOR_{{ index . 0 }}, value: {{ index . 1 | toString | quote }}}
{{- end }}
{{- end -}}
