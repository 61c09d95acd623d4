//! What is watched: one list of the API server each, as narrow as it can be.

use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::ApiResource;
use serde_json::{Map, Value, json};

use super::client::Api;

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// All of a kind of ours.
    All(Kind),
    /// This node's NodeNetwork.
    OwnNodeNetwork,
    /// This node's Node.
    OwnNode,
    /// Every other Node; only while nodes peer with each other.
    OtherNodes,
    /// A Secret of our namespace, by name.
    Secret(String),
}

/// The kinds of which every object concerns this node, or may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    NetworkConfig,
    BGPPeer,
    Advertisement,
    IPPool,
}

impl Topic {
    /// What is always watched.
    pub(super) fn always() -> [Self; 6] {
        [
            Self::All(Kind::NetworkConfig),
            Self::All(Kind::BGPPeer),
            Self::All(Kind::Advertisement),
            Self::All(Kind::IPPool),
            Self::OwnNodeNetwork,
            Self::OwnNode,
        ]
    }

    /// The list that an object of `node` came from.
    pub(super) fn of(object: &Value, node: &str) -> Option<Self> {
        let name = name(object);
        Some(match object.get("kind")?.as_str()? {
            "NetworkConfig" => Self::All(Kind::NetworkConfig),
            "BGPPeer" => Self::All(Kind::BGPPeer),
            "Advertisement" => Self::All(Kind::Advertisement),
            "IPPool" => Self::All(Kind::IPPool),
            "NodeNetwork" if name == node => Self::OwnNodeNetwork,
            "Node" if name == node => Self::OwnNode,
            "Node" => Self::OtherNodes,
            "Secret" => Self::Secret(name.to_owned()),
            _ => return None,
        })
    }

    /// The kind's name.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::All(Kind::NetworkConfig) => "NetworkConfig",
            Self::All(Kind::BGPPeer) => "BGPPeer",
            Self::All(Kind::Advertisement) => "Advertisement",
            Self::All(Kind::IPPool) => "IPPool",
            Self::OwnNodeNetwork => "NodeNetwork",
            Self::OwnNode | Self::OtherNodes => "Node",
            Self::Secret(_) => "Secret",
        }
    }

    /// As the API server calls it in paths and in RBAC.
    pub(super) fn plural(&self) -> String {
        self.resource().plural
    }

    /// Name of the definition that gives the kind to the API server, and takes all its objects along when it goes.
    pub(super) fn definition(&self) -> Option<String> {
        match self {
            Self::All(_) | Self::OwnNodeNetwork => {
                let ApiResource { plural, group, .. } = self.resource();
                Some(format!("{plural}.{group}"))
            }
            Self::OwnNode | Self::OtherNodes | Self::Secret(_) => None,
        }
    }

    /// How requests name it.
    pub(super) fn resource(&self) -> ApiResource {
        match self {
            Self::All(_) | Self::OwnNodeNetwork => resource(self.kind()),
            Self::OwnNode | Self::OtherNodes => ApiResource::erase::<Node>(&()),
            Self::Secret(_) => ApiResource::erase::<Secret>(&()),
        }
    }

    /// What the server leaves out.
    pub(super) fn field_selector(&self, node: &str) -> Option<String> {
        match self {
            Self::All(_) => None,
            Self::OwnNodeNetwork | Self::OwnNode => Some(format!("metadata.name={node}")),
            Self::OtherNodes => Some(format!("metadata.name!={node}")),
            Self::Secret(name) => Some(format!("metadata.name={name}")),
        }
    }

    /// Where it is; `None`: of the whole cluster.
    pub(super) fn namespace<'a>(&self, api: &'a Api) -> Option<&'a str> {
        matches!(self, Self::Secret(_)).then(|| api.namespace())
    }

    /// The part of an object that configuration is made of. The rest changes often, and is large: a Node's images,
    /// our own status, who wrote which field.
    pub(super) fn essence(&self, object: &Value) -> Value {
        let mut essence = Map::new();
        essence.insert("apiVersion".into(), self.resource().api_version.into());
        essence.insert("kind".into(), self.kind().into());
        let mut metadata = Map::new();
        for field in ["name", "namespace", "uid", "generation", "creationTimestamp", "labels"] {
            if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
                metadata.insert(field.into(), value.clone());
            }
        }
        essence.insert("metadata".into(), metadata.into());
        match self {
            Self::OwnNode | Self::OtherNodes => {
                let at = |path: &str| object.pointer(path).cloned().unwrap_or_else(|| json!([]));
                essence.insert("spec".into(), json!({ "podCIDRs": at("/spec/podCIDRs") }));
                essence.insert("status".into(), json!({ "addresses": at("/status/addresses") }));
            }
            Self::All(_) | Self::OwnNodeNetwork => keep(&mut essence, object, "spec"),
            Self::Secret(_) => keep(&mut essence, object, "data"),
        }
        essence.into()
    }
}

fn keep(essence: &mut Map<String, Value>, object: &Value, field: &str) {
    if let Some(value) = object.get(field) {
        essence.insert(field.into(), value.clone());
    }
}

/// How requests name one of our kinds.
pub(super) fn resource(kind: &str) -> ApiResource {
    ApiResource {
        group: "towpath.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: api::crd::API_VERSION.to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

/// `metadata.name`.
pub(super) fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_into_an_object_is_no_change_of_it() {
        let node = |images: &[&str], version: &str| {
            json!({
                "metadata": { "name": "node1", "uid": "u", "labels": {"rack": "a"}, "resourceVersion": version,
                              "managedFields": [{"manager": "kubelet"}], "annotations": {"a": "b"} },
                "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "taints": [] },
                "status": { "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}], "images": images },
            })
        };
        let essence = Topic::OwnNode.essence(&node(&["a"], "1"));
        assert_eq!(essence, Topic::OwnNode.essence(&node(&["a", "b"], "2")));
        assert_eq!(essence.pointer("/status/addresses/0/address"), Some(&json!("10.1.1.1")));
        assert_eq!(essence.pointer("/spec/podCIDRs/0"), Some(&json!("10.244.1.0/24")));
        assert_eq!(essence.pointer("/status/images"), None);
        assert_eq!(Topic::of(&essence, "node1"), Some(Topic::OwnNode));
        assert_eq!(Topic::of(&essence, "node2"), Some(Topic::OtherNodes));
        let peer = json!({ "metadata": {"name": "tor", "generation": 3}, "spec": {"remoteASN": 1}, "status": {"x": 1} });
        let essence = Topic::All(Kind::BGPPeer).essence(&peer);
        assert_eq!(
            essence,
            json!({ "apiVersion": "towpath.io/v1alpha1", "kind": "BGPPeer",
                    "metadata": {"name": "tor", "generation": 3}, "spec": {"remoteASN": 1} })
        );
        let secret = json!({ "metadata": {"name": "bgp", "namespace": "n"}, "data": {"password": "eA=="}, "type": "Opaque" });
        assert_eq!(
            Topic::Secret("bgp".into()).essence(&secret),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bgp", "namespace": "n"}, "data": {"password": "eA=="} })
        );
    }
}
