//! The manifests, the chart and the overlays, given to a real API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use towpath_tests::kube::ApiServer;
use towpath_tests::packaging::{self, by_name};
use towpath_tests::wait::until;

/// Patience for what an API server does on its own, on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

const DAEMON: &str = "system:serviceaccount:towpath-system:towpath";

/// `kubectl apply -k`; a warning of the API server is an error.
fn apply(server: &ApiServer, folder: &str) -> anyhow::Result<String> {
    server.kubectl(&["apply", "--warnings-as-errors", "-k", folder])
}

#[test]
fn one_command_makes_everything_and_the_same_one_again_changes_nothing() -> anyhow::Result<()> {
    let server = ApiServer::up()?;
    for folder in ["deploy/", "deploy/uninstall"] {
        let made = apply(&server, folder)?;
        ensure!(made.lines().all(|line| line.ends_with(" created")), "{folder}: {made}");
        let again = apply(&server, folder)?;
        ensure!(again.lines().all(|line| line.ends_with(" unchanged")), "{folder}: {again}");
        // Server-side, with every field known to the server.
        server.kubectl(&[
            "apply",
            "--server-side",
            "--validate=strict",
            "--force-conflicts",
            "-k",
            folder,
        ])?;
    }
    let removed = server.kubectl(&["delete", "--wait=false", "-k", "deploy/"])?;
    ensure!(removed.contains("\"bgppeers.towpath.io\" deleted"), "{removed}");
    Ok(())
}

/// As docs/kubernetes.md says: kubectl may look a kind up before it has made its definition, and says so.
#[test]
fn the_overlay_of_one_segment_is_the_base_and_one_mesh() -> anyhow::Result<()> {
    let server = ApiServer::up()?;
    if let Err(error) = apply(&server, "deploy/flat-l2") {
        ensure!(error.to_string().contains("no matches for kind \"BGPPeer\""), "{error:#}");
        until(LIMIT, "the same command once more to make the rest", || {
            let rest = apply(&server, "deploy/flat-l2")?;
            ensure!(rest.contains("bgppeer.towpath.io/mesh created"), "{rest}");
            Ok(Some(()))
        })?;
    }
    let mesh = server.json(&["get", "bgppeer", "mesh"])?;
    ensure!(mesh.pointer("/spec/neighbor/nodes/topology") == Some(&Value::from("Mesh")), "{mesh}");
    for folder in ["deploy/flat-l2", "deploy/"] {
        let again = apply(&server, folder)?;
        ensure!(again.lines().all(|line| line.ends_with(" unchanged")), "{folder}: {again}");
    }
    Ok(())
}

/// Every rule that RBAC gives a daemon in a namespace, without those that every user has.
fn rules(server: &ApiServer, namespace: &str) -> anyhow::Result<Vec<String>> {
    let rules =
        server.kubectl(&["auth", "can-i", "--list", "--no-headers", "--as", DAEMON, "-n", namespace])?;
    let of_everybody = |line: &str| line.starts_with("self") || line.trim_start().starts_with('[');
    let mut rules: Vec<String> = rules
        .lines()
        .filter(|line| !of_everybody(line))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    rules.sort();
    Ok(rules)
}

#[test]
fn a_daemon_may_read_its_configuration_write_what_it_observes_and_nothing_else() -> anyhow::Result<()> {
    let server = ApiServer::up()?;
    apply(&server, "deploy/")?;
    let everywhere = [
        "advertisements.towpath.io [] [] [get list watch]",
        "advertisements.towpath.io/status [] [] [patch]",
        "bgppeers.towpath.io [] [] [get list watch]",
        "bgppeers.towpath.io/status [] [] [patch]",
        "customresourcedefinitions.apiextensions.k8s.io [] [advertisements.towpath.io] [get]",
        "customresourcedefinitions.apiextensions.k8s.io [] [bgppeers.towpath.io] [get]",
        "customresourcedefinitions.apiextensions.k8s.io [] [ippools.towpath.io] [get]",
        "customresourcedefinitions.apiextensions.k8s.io [] [networkconfigs.towpath.io] [get]",
        "customresourcedefinitions.apiextensions.k8s.io [] [nodenetworks.towpath.io] [get]",
        "events.events.k8s.io [] [] [create patch]",
        "ippools.towpath.io [] [] [get list watch]",
        "ippools.towpath.io/status [] [] [patch]",
        "networkconfigs.towpath.io [] [] [get list watch]",
        "networkconfigs.towpath.io/status [] [] [patch]",
        "nodenetworks.towpath.io [] [] [create get list watch]",
        "nodenetworks.towpath.io/status [] [] [patch]",
        "nodes [] [] [get list watch]",
        "nodes/status [] [] [patch]",
    ];
    let at_home = [
        "leases.coordination.k8s.io [] [] [create]",
        "leases.coordination.k8s.io [] [towpath-status] [get update patch]",
        "secrets [] [] [get list watch]",
    ];
    let same = |found: Vec<String>, expected: &[&str]| {
        let sorted = |rules: Vec<String>| {
            // kubectl merges verbs in an order of its own.
            let mut rules: Vec<String> = rules
                .iter()
                .map(|rule| match rule.rsplit_once('[') {
                    Some((start, verbs)) => {
                        let mut verbs: Vec<&str> = verbs.trim_end_matches(']').split(' ').collect();
                        verbs.sort_unstable();
                        format!("{start}[{}]", verbs.join(" "))
                    }
                    None => rule.clone(),
                })
                .collect();
            rules.sort();
            rules
        };
        let (found, expected) =
            (sorted(found), sorted(expected.iter().map(|rule| (*rule).to_owned()).collect()));
        ensure!(found == expected, "found {found:#?}\nexpected {expected:#?}");
        Ok(())
    };
    same(rules(&server, "default")?, &everywhere)?;
    same(rules(&server, "towpath-system")?, &[&everywhere[..], &at_home].concat())
}

/// A daemon's own way to write a status: a server-side apply, with its token. Only the server judges it: a
/// kubectl that has not seen yet that this server can would judge it itself, and ask for a spec.
fn write_status(server: &ApiServer, token: &str, yaml: &str) -> anyhow::Result<String> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(file.path(), yaml)?;
    let (url, file) = (server.url(), file.path().display().to_string());
    let authority = format!("--certificate-authority={}", server.authority().display());
    server.kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "--subresource=status",
        "--validate=false",
        "--field-manager=towpath",
        "--kubeconfig=/dev/null",
        "--token",
        token,
        "--server",
        &url,
        &authority,
        "-f",
        &file,
    ])
}

fn asn(node: &str, asn: u32) -> String {
    format!(
        "---\n{{apiVersion: towpath.io/v1alpha1, kind: NodeNetwork, metadata: {{name: {node}}}, status: {{asn: {asn}}}}}"
    )
}

fn network_available(node: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}, status: {{conditions: [{{type: NetworkUnavailable, \
         status: 'False', reason: TowpathReady, message: '', lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
    )
}

#[test]
fn with_the_policy_a_daemon_writes_for_its_own_node_only() -> anyhow::Result<()> {
    let server = ApiServer::up()?;
    apply(&server, "deploy/")?;
    server.apply(
        "---\n{apiVersion: v1, kind: Node, metadata: {name: node1}}\n---\n\
         {apiVersion: v1, kind: Node, metadata: {name: node2}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: towpath-system}, spec: {nodeName: node1, \
         serviceAccountName: towpath, hostNetwork: true, containers: [{name: agent, image: towpath}]}}\n",
    )?;
    until(LIMIT, "the definitions to be in force", || {
        for node in ["node1", "node2"] {
            let network =
                "---\n{apiVersion: towpath.io/v1alpha1, kind: NodeNetwork, metadata: {name: NODE}, spec: {}}";
            server.apply(&network.replace("NODE", node))?;
        }
        Ok(Some(()))
    })?;
    let bound = ["create", "token", "towpath", "-n", "towpath-system", "--bound-object-kind=Pod"];
    let token = server.kubectl(&[&bound[..], &["--bound-object-name=agent"]].concat())?;
    let token = token.trim();

    // RBAC alone lets it write for others.
    write_status(&server, token, &asn("node2", 1))?;
    write_status(&server, token, &network_available("node2"))?;
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(packaging::repository(), folder.path().join("towpath"))?;
    fs::write(
        folder.path().join("kustomization.yaml"),
        "resources: [towpath/deploy/base]\ncomponents: [towpath/deploy/own-node]\n",
    )?;
    let overlay = folder.path().display().to_string();
    apply(&server, &overlay)?;
    until(LIMIT, "the policy to be in force", || {
        let refused = write_status(&server, token, &asn("node2", 2));
        let refused = refused.err().context("node1's daemon writes for node2")?.to_string();
        let expected = "metadata.name: node2 is not the node of this daemon's pod, \"node1\"";
        ensure!(refused.contains(expected), "{refused}");
        Ok(Some(()))
    })?;
    let unavailable = network_available("node2").replace("'False'", "'True'");
    let refused = write_status(&server, token, &unavailable);
    let refused = refused.err().context("node1's daemon writes the status of node2")?.to_string();
    ensure!(refused.contains("node2 is not the node"), "{refused}");
    write_status(&server, token, &asn("node1", 3))?;
    write_status(&server, token, &network_available("node1"))?;
    Ok(())
}

/// Runs helm against the server.
fn helm(server: &ApiServer, arguments: &[&str]) -> anyhow::Result<String> {
    let helm = packaging::helm()?.display().to_string();
    let kubeconfig = server.kubeconfig().display().to_string();
    // Without a home folder it keeps nothing of one test for the next.
    let home = tempfile::tempdir()?;
    let home = format!("HOME={}", home.path().display());
    let start = ["env", &home, &helm, "--kubeconfig", &kubeconfig, "--namespace", "towpath-system"];
    let output = server.netns().exec(&[&start[..], arguments].concat())?;
    let words =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    ensure!(output.status.success(), "helm {}: {words}", arguments.join(" "));
    Ok(words)
}

#[test]
fn the_chart_is_installed_upgraded_with_its_definitions_and_leaves_them_at_its_end() -> anyhow::Result<()> {
    let server = ApiServer::up()?;
    let chart = packaging::repository().join("deploy/helm/towpath").display().to_string();
    helm(&server, &["install", "towpath", &chart, "--create-namespace"])?;
    let mut installed =
        server.json(&["get", "daemonset,serviceaccount,role,rolebinding", "-n", "towpath-system"])?;
    let items = installed["items"].as_array_mut().context("no list")?;
    items.retain(|item| item.pointer("/metadata/name") == Some(&Value::from("towpath")));
    ensure!(items.len() == 4, "{items:?}");

    // A definition that somebody changed is mended by an upgrade, as a newer one would be.
    let definition = "customresourcedefinition/ippools.towpath.io";
    let short = || server.kubectl(&["get", definition, "-o", "jsonpath={.spec.names.shortNames}"]);
    let before = short()?;
    let change = r#"{"spec":{"names":{"shortNames":["other"]}}}"#;
    server.kubectl(&["patch", definition, "--type=merge", "--patch", change])?;
    ensure!(short()? != before, "not changed");
    helm(&server, &["upgrade", "towpath", &chart, "--set", "log=debug"])?;
    ensure!(short()? == before, "{}", short()?);

    helm(&server, &["uninstall", "towpath"])?;
    ensure!(short()? == before, "the definitions stay, and with them everybody's resources");
    let left = server.kubectl(&["get", "daemonset", "-A", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

#[test]
fn the_chart_makes_the_objects_of_the_base() -> anyhow::Result<()> {
    let base = by_name(&packaging::kustomize(&packaging::repository().join("deploy"))?)?;
    let mut chart = by_name(&packaging::render(&[])?)?;
    for object in chart.values_mut() {
        // Helm's own word, and what is left when it is taken away.
        let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        let empty = annotations.is_some_and(|annotations| {
            annotations.remove("helm.sh/resource-policy");
            annotations.is_empty()
        });
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| empty) {
            metadata.remove("annotations");
        }
    }
    let of_base: Vec<&String> = base.keys().filter(|name| *name != "Namespace/towpath-system").collect();
    ensure!(of_base.len() + 1 == base.len(), "the base has no namespace");
    ensure!(chart.keys().collect::<Vec<_>>() == of_base, "{:?}\n{of_base:?}", chart.keys());
    for (name, object) in &chart {
        ensure!(base.get(name) == Some(object), "{name}:\n{object:#}\nin the base:\n{:#}", base[name]);
    }
    Ok(())
}

#[test]
fn the_chart_refuses_values_it_does_not_know_and_uses_those_it_does() -> anyhow::Result<()> {
    for (value, word) in [
        ("imag.tag=1", "additional properties 'imag' not allowed"),
        ("apiServers={http://10.0.0.1}", "does not match pattern"),
        ("maxUnavailable=0", "maxUnavailable"),
        ("hostPaths.cniBin=opt", "does not match pattern"),
    ] {
        let refused =
            packaging::render(&["--set", value]).err().with_context(|| format!("{value} is taken"))?;
        ensure!(refused.to_string().contains(word), "{value}: {refused:#}");
    }
    let given = [
        "image.repository=registry.example/towpath",
        "image.tag=v9",
        "apiServers={https://10.0.0.1:6443,https://[fd00::1]:6443}",
        "log=debug",
        "hostPaths.cniBin=/var/lib/cni/bin",
        "maxUnavailable=2",
        "ownNodePolicy=true",
    ];
    let arguments: Vec<&str> = given.iter().flat_map(|value| ["--set", *value]).collect();
    let objects = by_name(&packaging::render(&arguments)?)?;
    let daemon = objects.get("DaemonSet/towpath").context("no DaemonSet")?.to_string();
    for word in [
        r#""image":"registry.example/towpath:v9""#,
        r#"{"name":"TOWPATH_API_SERVER","value":"https://10.0.0.1:6443,https://[fd00::1]:6443"}"#,
        r#"{"name":"TOWPATH_LOG","value":"debug"}"#,
        r#""path":"/var/lib/cni/bin""#,
        r#""maxUnavailable":2"#,
    ] {
        ensure!(daemon.contains(word), "{word}: {daemon}");
    }
    let policy = "ValidatingAdmissionPolicy/towpath-own-node";
    let overlay = tempfile::tempdir()?;
    std::os::unix::fs::symlink(packaging::repository(), overlay.path().join("towpath"))?;
    fs::write(overlay.path().join("kustomization.yaml"), "components: [towpath/deploy/own-node]\n")?;
    let component = by_name(&packaging::kustomize(overlay.path())?)?;
    ensure!(component.contains_key(policy) && component.get(policy) == objects.get(policy), "{component:?}");
    Ok(())
}

/// The overlay that docs/kubernetes.md shows, beside a clone of the repository.
#[test]
fn the_documented_overlay_takes_the_image_from_a_registry() -> anyhow::Result<()> {
    let text = fs::read_to_string(packaging::repository().join("docs/kubernetes.md"))?;
    let start = "```yaml\n# kustomization.yaml\n";
    let blocks: Vec<&str> = text.split(start).skip(1).filter_map(|rest| rest.split("```").next()).collect();
    ensure!(!blocks.is_empty(), "docs/kubernetes.md shows no overlay any more");
    for block in blocks {
        let folder = tempfile::tempdir()?;
        std::os::unix::fs::symlink(packaging::repository(), folder.path().join("towpath"))?;
        fs::write(folder.path().join("kustomization.yaml"), block)?;
        let objects = by_name(&packaging::kustomize(folder.path())?)?;
        let daemon = objects.get("DaemonSet/towpath").context("no DaemonSet")?;
        for path in ["/spec/template/spec/initContainers/0/image", "/spec/template/spec/containers/0/image"] {
            let image = daemon.pointer(path).and_then(Value::as_str).unwrap_or_default();
            ensure!(image.starts_with("registry.example/net/towpath:"), "{path}: {image}");
        }
    }
    Ok(())
}

fn yaml_files(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            yaml_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// An image's tag that was forgotten is found here, not in somebody's cluster.
#[test]
fn every_file_names_the_version_that_is_built() -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let mut files = Vec::new();
    yaml_files(&packaging::repository().join("deploy"), &mut files)?;
    let mut found = 0;
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (start, end) in [("image: towpath:", '\n'), ("appVersion: ", '\n'), ("image.version=\"", '"')] {
            for named in text.split(start).skip(1).filter_map(|rest| rest.split(end).next()) {
                ensure!(named == version, "{}: {start}{named}, and this is {version}", file.display());
                found += 1;
            }
        }
    }
    ensure!(found >= 6, "only {found} places name a version: this test looks at nothing");
    Ok(())
}
