//! What a report asks of the API server: a handful of requests, each with a limit of time, and what their failures mean.

use std::future::Future;
use std::time::Duration;

use api::status::NodeNetworkStatus;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, GetParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::topic::resource;

/// Who writes a node's status, and the conditions of what it reports on.
pub(super) const MANAGER: &str = "towpath";
/// Who adds to a node's status what only a view over all nodes shows.
pub(super) const CLUSTER_MANAGER: &str = "towpath-status";
/// The Lease of the one that reports for the cluster.
pub(super) const LEASE: &str = "towpath-status";
/// Until an answer is there.
const LIMIT: Duration = Duration::from_secs(10);
/// Events about objects without a namespace belong here.
const EVENTS_IN: &str = "default";

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else was faster.
    #[error("{0}")]
    Conflict(String),
    /// The same request will be refused again.
    #[error("{0}")]
    Refused(String),
    /// No answer, or one that says "later".
    #[error("{0}")]
    Away(String),
}

/// The API server, as reports see it.
#[derive(Clone)]
pub(super) struct Server {
    client: kube::Client,
    namespace: String,
}

impl Server {
    pub(super) fn new(client: kube::Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// The objects of one of our kinds.
    fn ours(&self, kind: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind))
    }

    pub(super) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The status an object has. What this version cannot read counts as empty.
    pub(super) async fn status(&self, kind: &str, name: &str) -> Result<Value, Failure> {
        let object = within(self.ours(kind).get(name)).await?;
        Ok(object.data.get("status").cloned().unwrap_or_default())
    }

    /// This node's status as it was written last.
    pub(super) async fn node_network(&self, name: &str) -> Result<NodeNetworkStatus, Failure> {
        let status = self.status("NodeNetwork", name).await?;
        Ok(serde_json::from_value(status).unwrap_or_default())
    }

    /// Makes the NodeNetwork of a node; it goes with the Node.
    pub(super) async fn create_node_network(&self, name: &str, node_uid: &str) -> Result<(), Failure> {
        let object = json!({
            "apiVersion": api::crd::API_VERSION,
            "kind": "NodeNetwork",
            "metadata": {
                "name": name,
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid }],
            },
            "spec": {},
        });
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| Failure::Refused(error.to_string()))?;
        let nodes = self.ours("NodeNetwork");
        match within(nodes.create(&posted(), &object)).await {
            // Another made it meanwhile: it is there.
            Ok(_) | Err(Failure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Replaces what `manager` says in an object's status.
    pub(super) async fn apply_status(
        &self,
        kind: &str,
        name: &str,
        manager: &str,
        status: &Value,
    ) -> Result<(), Failure> {
        let body = json!({
            "apiVersion": api::crd::API_VERSION,
            "kind": kind,
            "metadata": { "name": name },
            "status": status,
        });
        let apply = PatchParams::apply(manager).force();
        within(self.ours(kind).patch_status(name, &apply, &Patch::Apply(&body))).await.map(drop)
    }

    /// A Node, from the server's cache: it may be a moment old.
    pub(super) async fn node(&self, name: &str) -> Result<Node, Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        within(nodes.get_with(name, &GetParams::any())).await
    }

    /// A Node's uid.
    pub(super) async fn node_uid(&self, name: &str) -> Result<Option<String>, Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(within(nodes.get_metadata(name)).await?.metadata.uid)
    }

    /// Changes one condition of a Node, and no other.
    pub(super) async fn patch_node_status(&self, name: &str, condition: &Value) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let body = json!({ "status": { "conditions": [condition] } });
        let patch = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        within(nodes.patch_status(name, &patch, &Patch::Strategic(&body))).await.map(drop)
    }

    pub(super) async fn create_event(&self, event: &Event) -> Result<(), Failure> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), EVENTS_IN);
        within(events.create(&posted(), event)).await.map(drop)
    }

    /// Says how often the thing happened.
    pub(super) async fn patch_event(&self, name: &str, series: &Value) -> Result<(), Failure> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), EVENTS_IN);
        let patch = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        within(events.patch(name, &patch, &Patch::Merge(&json!({ "series": series })))).await.map(drop)
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn lease(&self) -> Result<Option<Lease>, Failure> {
        match within(self.leases().get_with(LEASE, &GetParams::any())).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Failure::NotFound(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Writes the Lease, unless it has changed since it was read: `lease` carries its version then, or none at all.
    pub(super) async fn put_lease(&self, lease: &Lease) -> Result<Lease, Failure> {
        match lease.metadata.resource_version {
            Some(_) => within(self.leases().replace(LEASE, &posted(), lease)).await,
            None => within(self.leases().create(&posted(), lease)).await,
        }
    }
}

fn posted() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(meaning(error)),
        Err(_) => Err(Failure::Away(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

fn meaning(error: kube::Error) -> Failure {
    let status = match error {
        kube::Error::Api(status) => status,
        // Its words have those of its source in them.
        other => return Failure::Away(other.to_string()),
    };
    let text = status.message.clone();
    match status.code {
        404 => Failure::NotFound(text),
        409 => Failure::Conflict(text),
        400..=428 | 431..=499 => Failure::Refused(text),
        _ => Failure::Away(text),
    }
}
