//! The manifests themselves: what each object of the cluster holds.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{ExportError, plain_name};
use super::{
    CONFIG_FOLDER, HISTORY_FOLDER, Kubernetes, LONGEST_NAME, Mode, NOT_STARTED_OK, PORT, USER,
    cron, starting_deadline,
};
use crate::config::{Config, Schedule};

pub(super) struct Cluster<'a> {
    pub(super) config: &'a Config,
    pub(super) options: &'a Kubernetes,
    pub(super) claims_volume: bool,
}

impl Cluster<'_> {
    fn metadata(&self, name: &str) -> Value {
        let mut metadata = json!({
            "name": name,
            "labels": { "app.kubernetes.io/name": "maint", "app.kubernetes.io/managed-by": "maint" },
        });
        if let Some(namespace) = &self.options.namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    }

    /// The files with their keys: a key has no `/`, and must be plain.
    pub(super) fn keys(&self) -> Vec<(String, &str, &str)> {
        let mut taken = Vec::new();
        let files = &self.options.files;
        files
            .iter()
            .chain(&self.options.templates)
            .map(|(path, text)| {
                let key = plain_name(path, 200, &mut taken);
                (key, path.as_str(), text.as_str())
            })
            .collect()
    }

    pub(super) fn config_map(&self) -> Value {
        let data: serde_json::Map<String, Value> = self
            .keys()
            .into_iter()
            .map(|(key, _, text)| (key, json!(text)))
            .collect();
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": self.metadata("maint"), "data": data })
    }

    /// Nobody talks to the pods but for probes, metrics and the page; they talk to what the
    /// configuration names, by port, and ask for names.
    pub(super) fn network_policy(&self, ports: &BTreeSet<u16>) -> Value {
        let port = |protocol: &str, port: u16| json!({ "protocol": protocol, "port": port });
        let mut out = vec![port("UDP", 53), port("TCP", 53)];
        out.extend(ports.iter().map(|number| port("TCP", *number)));
        let ingress = match self.options.mode {
            Mode::Serve => json!([{ "ports": [port("TCP", PORT)] }]),
            Mode::CronJobs | Mode::Due => json!([]),
        };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": self.metadata("maint"),
            "spec": {
                "podSelector": { "matchLabels": { "app.kubernetes.io/name": "maint" } },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": [{ "ports": out }],
            },
        })
    }

    pub(super) fn volume_claim(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": self.metadata("maint-history"),
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } },
            },
        })
    }

    pub(super) fn cron_job_of(
        &self,
        schedule: &Schedule,
        taken: &mut Vec<String>,
    ) -> Result<Value, ExportError> {
        let zone = schedule.timezone.unwrap_or(self.config.timezone);
        let name = plain_name(&schedule.name, LONGEST_NAME - "maint-".len(), taken);
        // As an instance of `maint serve` would: the occurrence is claimed and recorded, what was
        // missed meanwhile is made up for, or recorded, and told.
        let args = json!(["run", "--due", NOT_STARTED_OK, "--schedule", schedule.name]);
        let tasks: Vec<&str> = schedule.tasks.iter().map(String::as_str).collect();
        Ok(self.cron_job(
            &format!("maint-{name}"),
            &cron(schedule)?,
            &zone.to_string(),
            starting_deadline(schedule, zone),
            args,
            &tasks,
        ))
    }

    pub(super) fn cron_job(
        &self,
        name: &str,
        cron: &str,
        zone: &str,
        starting_deadline: u64,
        args: Value,
        tasks: &[&str],
    ) -> Value {
        let mut pod = self.pod(args, tasks);
        pod["restartPolicy"] = json!("Never");
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": self.metadata(name),
            "spec": {
                "schedule": cron,
                "timeZone": zone,
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": starting_deadline,
                "successfulJobsHistoryLimit": 1,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": { "spec": {
                    // What failed is tried again by maint, which knows what was done already.
                    "backoffLimit": 0,
                    "ttlSecondsAfterFinished": 259_200,
                    "template": { "metadata": { "labels": { "app.kubernetes.io/name": "maint" } }, "spec": pod },
                } },
            },
        })
    }

    pub(super) fn deployment(&self) -> Value {
        let tasks: Vec<&str> = self.config.tasks.keys().map(String::as_str).collect();
        let mut pod = self.pod(
            json!(["serve", "--listen", format!("0.0.0.0:{PORT}")]),
            &tasks,
        );
        let container = &mut pod["containers"][0];
        container["ports"] = json!([{ "name": "http", "containerPort": PORT }]);
        let probe = |path: &str, period: u32| json!({ "httpGet": { "path": path, "port": "http" }, "periodSeconds": period, "timeoutSeconds": 5 });
        // It answers once the history does, which may have to be waited for, or be brought to the form
        // of this version.
        container["startupProbe"] = probe("/healthz", 5);
        container["startupProbe"]["failureThreshold"] = json!(60);
        container["livenessProbe"] = probe("/healthz", 20);
        container["readinessProbe"] = probe("/readyz", 10);
        // A history in a file is for one process at a time.
        let strategy = if self.claims_volume {
            json!({ "type": "Recreate" })
        } else {
            json!({ "type": "RollingUpdate" })
        };
        let labels =
            json!({ "app.kubernetes.io/name": "maint", "app.kubernetes.io/component": "serve" });
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": self.metadata("maint"),
            "spec": {
                "replicas": self.options.replicas,
                "strategy": strategy,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": PORT.to_string() },
                    },
                    "spec": pod,
                },
            },
        })
    }

    pub(super) fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": self.metadata("maint"),
            "spec": {
                "selector": { "app.kubernetes.io/name": "maint", "app.kubernetes.io/component": "serve" },
                "ports": [{ "name": "http", "port": PORT, "targetPort": "http" }],
            },
        })
    }

    fn pod(&self, args: Value, tasks: &[&str]) -> Value {
        let grace = tasks
            .iter()
            .filter_map(|task| self.config.tasks.get(*task))
            .map(|task| task.limits.grace.get().as_secs())
            .max()
            .unwrap_or(25);
        let mut mounts = vec![
            json!({ "name": "config", "mountPath": CONFIG_FOLDER, "readOnly": true }),
            json!({ "name": "tmp", "mountPath": "/tmp" }),
        ];
        // One volume for all, so that a change of several files arrives as one.
        let items: Vec<Value> = self
            .keys()
            .into_iter()
            .map(|(key, path, _)| json!({ "key": key, "path": path }))
            .collect();
        let mut volumes = vec![
            json!({ "name": "config", "configMap": { "name": "maint", "items": items } }),
            json!({ "name": "tmp", "emptyDir": {} }),
        ];
        // Always writable: records that the history does not take are kept there meanwhile.
        let name = if self.claims_volume {
            "history"
        } else {
            "state"
        };
        mounts.push(json!({ "name": name, "mountPath": HISTORY_FOLDER }));
        volumes.push(if self.claims_volume {
            json!({ "name": name, "persistentVolumeClaim": { "claimName": "maint-history" } })
        } else {
            json!({ "name": name, "emptyDir": {} })
        });
        json!({
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            // Time to cancel what is running and to clear away what it left.
            "terminationGracePeriodSeconds": grace + 10,
            "containers": [{
                "name": "maint",
                "image": self.options.image,
                "args": args,
                "env": [
                    { "name": "MAINT_CONFIG", "value": format!("{CONFIG_FOLDER}/schedules.yaml") },
                    { "name": "STATE_DIRECTORY", "value": HISTORY_FOLDER },
                ],
                "envFrom": [{ "secretRef": { "name": self.options.secret } }],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
                "resources": {
                    "requests": { "cpu": "50m", "memory": "64Mi" },
                    "limits": { "memory": "512Mi" },
                },
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        })
    }
}
