//! The API server that other tests talk to: it stores, it forgets nothing, it tells who asked, it leaves nothing.

use std::time::Instant;

use towpath_tests::kube::{ApiServer, ApiServerOptions};

const MAP: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: NAME, namespace: default}, data: {key: value}}";

#[test]
fn an_api_server_keeps_what_it_was_told_through_a_crash() {
    let start = Instant::now();
    let mut server =
        ApiServer::with(ApiServerOptions { audit: true, ..ApiServerOptions::default() }).unwrap();
    println!("an API server, empty to ready: {:.1?}", start.elapsed());
    server.apply(&MAP.replace("NAME", "kept")).unwrap();
    server.kill().unwrap();
    let error = server.kubectl(&["get", "configmaps"]).unwrap_err();
    assert!(format!("{error:#}").contains("refused"), "{error:#}");
    let start = Instant::now();
    server.start().unwrap();
    println!("and after a crash: {:.1?}", start.elapsed());
    let kept = server.json(&["get", "configmap", "kept"]).unwrap();
    assert_eq!(kept["data"]["key"], "value");

    // A service account may do what it is allowed to, and is known by its name.
    let kubeconfig = server.kubeconfig_of("default", "reader").unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let error = server.kubectl(&["--kubeconfig", kubeconfig, "get", "configmaps"]).unwrap_err();
    assert!(format!("{error:#}").contains("forbidden"), "{error:#}");
    let who = "system:serviceaccount:default:reader";
    let asked = server.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == who);
    assert!(
        asked.clone().any(|event| event["responseStatus"]["code"] == 403),
        "{:?}",
        asked.collect::<Vec<_>>()
    );
}
