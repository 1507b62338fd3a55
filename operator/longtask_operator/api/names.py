"""Every name that another program may rely on: group, kinds, labels, annotations, finalizer, ports.

A name is written once, here; templates of the chart repeat it and a contract test
compares the two.
"""

from __future__ import annotations

GROUP = "longtask.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

LONGTASK_KIND = "LongTask"
LONGTASK_PLURAL = "longtasks"

TENANTQUOTA_KIND = "TenantQuota"
TENANTQUOTA_PLURAL = "tenantquotas"

#: Longest name of a LongTask: leaves room for `-<6 of uid>-<attempt>` in a Job's name of 63.
MAX_NAME_LENGTH = 52

# Labels on Jobs and Pods. Never copied from the LongTask.
LABEL_TASK = f"{GROUP}/task"
LABEL_TASK_UID = f"{GROUP}/task-uid"
LABEL_TENANT = f"{GROUP}/tenant"  #: on namespaces too: whose tasks live there
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "longtask"

#: On Jobs: the LocalQueue in which Kueue queues them. Kueue's name, not ours.
KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

# Annotations.
ANNOTATION_CREATED_BY = f"{GROUP}/created-by"  #: on LongTasks, written by the API server
ANNOTATION_SUBMITTED_BY = f"{GROUP}/submitted-by"  #: on LongTasks, by a trusted submitter: for whom it submits
ANNOTATION_TRACEPARENT = f"{GROUP}/traceparent"  #: on LongTasks, by the submitter
ANNOTATION_ALLOWED_SERVICE_ACCOUNTS = f"{GROUP}/allowed-service-accounts"  #: on namespaces, by an admin
ANNOTATION_GENERATION = f"{GROUP}/generation"  #: on Jobs: the LongTask generation the attempt was admitted with
ANNOTATION_RUN = f"{GROUP}/run"  #: on Jobs: the run the attempt belongs to
ANNOTATION_KEY = f"{GROUP}/idempotency-key"  #: on Jobs and Pods: what their task claims, even when it is gone
ANNOTATION_RESUME = f"{GROUP}/resume-from"  #: on pods: manifests that the attempt is given, newest first, one a line
ANNOTATION_CA = f"{GROUP}/report-ca"  #: on Pods: the CA of the report server, PEM

#: On Pods, by the Job's template: holds the pod object until its outcome stands in the LongTask's status.
FINALIZER = f"{GROUP}/accounting"

#: Field manager of every write of the operator.
FIELD_MANAGER = "longtask-operator"

#: Audience of the projected ServiceAccount token that a worker reports with.
TOKEN_AUDIENCE = "longtask"

#: Name of the container that alone decides an attempt's outcome, and of our sidecar.
TASK_CONTAINER = "task"
SIDECAR_CONTAINER = "longtask-sidecar"

#: Prefix of every environment variable that we set; users may not set such names.
ENV_PREFIX = "LONGTASK_"

REPORT_PATH = "/v1/namespaces/{namespace}/longtasks/{name}/attempts/{attempt}/report"
