"""The chart on a real Kubernetes API server: `make cluster-check`.

etcd, the API server, the controller manager and the scheduler are Kubernetes' own, built from its Go modules. kwok
stands for the nodes: it says of every pod that it runs, and of a job's pod that it ended well; no container is run.
"""
