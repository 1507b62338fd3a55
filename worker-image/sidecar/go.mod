module longtask.dev/sidecar

go 1.24
