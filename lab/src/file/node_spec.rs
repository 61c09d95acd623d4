//! One node of a topology: inheritance applied, image mapped, binds and commands resolved.
//!
//! Inheritance is containerlab's: node, group, kind, defaults; single values from the most specific
//! level, `env`, `labels` and `sysctls` key by key, `exec`, `binds` and `env-files` appended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::file::fields::{At, Fields, appended, by_key, did_you_mean, first};
use crate::file::image::{RUN_LABEL, main_command};
use crate::file::kind::Kind;
use crate::file::lifecycle::{self, RestartPolicy};
use crate::file::management::{self, Wish};
use crate::file::problem::Findings;
use crate::file::topology::{NodeSpec, Scope};
use crate::file::yaml::{Key, Value, Yaml};
use crate::file::{binds, network, space, stage_file, sysctls, words};

const ENV_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn resolve(
    key: &Key,
    yaml: &Yaml,
    scope: &Scope<'_>,
    findings: &mut Findings,
) -> Option<(NodeSpec, Wish)> {
    let name = key.text.as_str();
    let place = format!("node {name}");
    let before = findings.problems.len();
    let own = Fields::read(&place, yaml, findings);
    if !matches!(yaml.value, Value::Map(_) | Value::Null) {
        return None; // said already
    }
    let none = Fields::default();
    // `group` is not inherited from a group, `kind` not from a kind.
    let group_name = own.group.as_ref().or(scope.defaults.group.as_ref());
    let group = group_name.and_then(|group| scope.groups.get(&group.text)).unwrap_or(&none);
    if let Some(wanted) = group_name.filter(|wanted| !scope.groups.contains_key(&wanted.text)) {
        let hint = did_you_mean(&wanted.text, scope.groups.keys().map(String::as_str));
        let text = format!("{place}: there is no group \"{}\", so it adds nothing; {hint}", wanted.text);
        findings.warn(wanted.line, text);
    }
    let kind = own.kind.as_ref().or(group.kind.as_ref()).or(scope.defaults.kind.as_ref());
    let by_kind = kind.and_then(|kind| scope.kinds.get(&kind.text)).unwrap_or(&none);
    let levels = [&own, group, by_kind, &scope.defaults];
    let named = kind.is_some();
    let kind = Kind::read(&place, key.line, kind, findings);
    check_name(&place, key, kind, findings);

    // A namespace that exists already keeps its name.
    let container = match kind {
        Some(Kind::ExtContainer) => name.to_owned(),
        _ => container_name(scope, name),
    };
    if scope.prefix.is_some() && good_name(name) && good_name(scope.lab) && !good_container(&container) {
        let text = format!("{place}: container name \"{container}\" is not possible; correct the \"prefix\"");
        findings.refuse(key.line, text);
    }
    let labels = by_key(&levels, |fields| &fields.labels);
    let hostname = hostname(&place, name, &levels, findings);
    let magic = |text: &str| magic(text, scope, name);
    let commands = appended(&levels, |fields| &fields.exec);
    let mut exec: Vec<_> = commands
        .iter()
        .filter_map(|at| command_line(&place, "exec", &magic_at(at, &magic), findings))
        .collect();
    if let (Some(Kind::Bridge), Some(at)) = (kind, commands.first()) {
        findings.warn(at.line, format!("{place}: \"exec\" is skipped, because a bridge runs nothing"));
        exec.clear();
    }
    let image = first(&levels, |fields| fields.image.as_ref());
    let command = match kind {
        Some(Kind::Bridge | Kind::ExtContainer | Kind::Host) => Vec::new(),
        // Of a kind that is refused nobody knows whether it has a program.
        None if named => Vec::new(),
        Some(Kind::Linux) | None => main(&place, key.line, image, &levels, &labels, findings),
    };
    // An image that others inherit too says nothing about a device or a namespace.
    let image = image.filter(|_| kind == Some(Kind::Linux));
    let mode = first(&levels, |fields| fields.network_mode.as_ref());
    let network = network::read(name, kind.unwrap_or(Kind::Linux), mode, findings);
    let wish = network::wish(&place, key.line, &own, &network, findings);
    let mut env = env_files(&place, &levels, scope.folder, findings);
    env.extend(plain(&by_key(&levels, |fields| &fields.env)));
    let healthcheck = levels.iter().find_map(|fields| fields.healthcheck.clone()).flatten();
    let own_labels = [
        ("containerlab", scope.lab.to_owned()),
        ("clab-node-name", name.to_owned()),
        ("clab-node-longname", container.clone()),
        ("clab-node-kind", kind.map_or("", Kind::word).to_owned()),
        ("clab-node-group", group_name.map(|group| group.text.clone()).unwrap_or_default()),
        ("clab-node-lab-dir", lab_folder(scope).join(name).to_string_lossy().into_owned()),
    ];
    let spec = NodeSpec {
        kind: kind.unwrap_or(Kind::Linux),
        image: image.map(|image| image.text.clone()).unwrap_or_default(),
        env: environment(env, &hostname, &own_labels, &labels),
        container,
        hostname,
        command,
        user: first(&levels, |fields| fields.user.as_ref()).map(|at| at.text.clone()),
        exec,
        labels: plain(&labels),
        sysctls: sysctls::read(&place, &by_key(&levels, |fields| &fields.sysctls), findings),
        binds: binds::read(
            &place,
            &appended(&levels, |fields| &fields.binds),
            &|source| absolute(&magic(source), scope.folder),
            findings,
        ),
        network,
        management: Vec::new(),
        aliases: own.aliases.iter().map(|at| at.text.clone()).collect(),
        dns: levels.iter().find_map(|fields| fields.dns.clone()),
        tmpfs: tmpfs(&place, &levels, findings),
        stages: stage_file::merged(
            name,
            &levels,
            healthcheck.is_some(),
            &magic,
            &mut scope.waits.borrow_mut(),
            findings,
        ),
        healthcheck,
        restart: first(&levels, |fields| fields.restart_policy.as_ref())
            .map_or(RestartPolicy::Always, |at| RestartPolicy::read(&place, at, findings)),
        startup_delay: first(&levels, |fields| fields.startup_delay.as_ref())
            .and_then(|at| lifecycle::seconds(&format!("{place}: \"startup-delay\""), at, findings))
            .unwrap_or_default(),
    };
    (findings.problems.len() == before).then_some((spec, wish))
}

/// As long and of such characters as the kernel and `/etc/hosts` can take.
fn hostname(place: &str, name: &str, levels: &[&Fields], findings: &mut Findings) -> String {
    let Some(given) = first(levels, |fields| fields.hostname.as_ref()) else { return name.to_owned() };
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if given.text.len() > 64 || !given.text.chars().all(good) {
        let remedy = "use letters, digits, \"-\", \"_\" and \".\", at most 64";
        findings
            .refuse(given.line, format!("{place}: hostname \"{}\" is not possible; {remedy}", given.text));
    }
    given.text.clone()
}

fn check_name(place: &str, key: &Key, kind: Option<Kind>, findings: &mut Findings) {
    let name = key.text.as_str();
    if kind == Some(Kind::Bridge) {
        if !management::possible_device(space::bridge_device(name)) {
            findings.refuse(
                key.line,
                format!("{place}: \"{}\" {}", space::bridge_device(name), management::DEVICE),
            );
        }
    } else if name.is_empty() {
        findings.refuse(key.line, "a node has no name; write one before the colon");
    } else if !good_name(name) {
        let remedy = "use letters, digits, \"-\", \"_\" and \".\", at most 60";
        findings.refuse(key.line, format!("{place}: the name is not possible; {remedy}"));
    }
    let reserved =
        name == space::MGMT_NET || name == "macvlan" || (name == space::HOST && kind != Some(Kind::Host));
    if reserved {
        findings.refuse(
            key.line,
            format!("{place}: the name means something else in \"links\"; choose another one"),
        );
    }
}

/// A node's name becomes a folder, a host name and a socket's name.
fn good_name(name: &str) -> bool {
    name.len() <= 60
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// What Docker takes as a container's name.
fn good_container(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn main(
    place: &str,
    line: usize,
    image: Option<&At>,
    levels: &[&Fields],
    labels: &BTreeMap<String, At>,
    findings: &mut Findings,
) -> Vec<String> {
    let Some(image) = image else {
        findings.refuse(line, format!("{place}: no \"image\"; add one, it says which program runs"));
        return Vec::new();
    };
    let before = findings.problems.len();
    let mut split = |name: &str, at: Option<&At>| at.and_then(|at| command_line(place, name, at, findings));
    let run = split(RUN_LABEL, labels.get(RUN_LABEL));
    let entrypoint =
        split("entrypoint", first(levels, |fields| fields.entrypoint.as_ref())).unwrap_or_default();
    let cmd = split("cmd", first(levels, |fields| fields.cmd.as_ref())).unwrap_or_default();
    if findings.problems.len() > before {
        return Vec::new(); // what would be run is not known
    }
    if let Some(variable) = image.text.strip_prefix('$') {
        let text = format!("{place}: image \"{}\" is a variable without a value; set {variable}", image.text);
        findings.refuse(image.line, text);
        return Vec::new();
    }
    match main_command(&image.text, run.as_deref(), &entrypoint, &cmd) {
        Ok(command) => command,
        Err(text) => {
            findings.refuse(image.line, format!("{place}: {text}"));
            Vec::new()
        }
    }
}

fn command_line(place: &str, field: &str, at: &At, findings: &mut Findings) -> Option<Vec<String>> {
    match words::split(&at.text) {
        Ok(words) if words.is_empty() => None,
        Ok(words) => Some(words),
        Err(text) => {
            findings.refuse(at.line, format!("{place}: \"{field}\": {text}; close it"));
            None
        }
    }
}

/// Target and mount options, such as `size=64m,mode=755`.
fn tmpfs(place: &str, levels: &[&Fields], findings: &mut Findings) -> BTreeMap<PathBuf, String> {
    let given = by_key(levels, |fields| &fields.tmpfs);
    let good = given.into_iter().filter_map(|(target, options)| {
        let path = PathBuf::from(&target);
        let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if path.is_absolute() && plain && path != Path::new("/") {
            return Some((path, options.text));
        }
        findings.refuse(
            options.line,
            format!("{place}: tmpfs \"{target}\" is no place in the node; it must be an absolute path"),
        );
        None
    });
    good.collect()
}

fn absolute(path: &str, folder: &Path) -> PathBuf {
    if let (Some(rest), Some(home)) = (path.strip_prefix('~'), std::env::var_os("HOME")) {
        return PathBuf::from(home).join(rest.trim_start_matches('/'));
    }
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

fn magic_at(at: &At, magic: &dyn Fn(&str) -> String) -> At {
    At { line: at.line, text: magic(&at.text) }
}

/// Where containerlab keeps a lab's files; here it is only a name.
fn lab_folder(scope: &Scope<'_>) -> PathBuf {
    let base = std::env::var_os("CLAB_LABDIR_BASE").map_or_else(|| scope.folder.to_owned(), PathBuf::from);
    base.join(format!("clab-{}", scope.lab))
}

/// containerlab's own variables in `exec` and bind sources.
fn magic(text: &str, scope: &Scope<'_>, node: &str) -> String {
    let lab = format!("clab-{}", scope.lab);
    let folder = lab_folder(scope);
    text.replace("__clabNodeName__", node)
        .replace("__clabLabName__", &lab)
        .replace("__clabNodeDir__", &folder.join(node).to_string_lossy())
        .replace("__clabDir__", &folder.to_string_lossy())
}

fn container_name(scope: &Scope<'_>, node: &str) -> String {
    match scope.prefix {
        None => format!("clab-{}-{node}", scope.lab),
        Some("") => node.to_owned(),
        Some("__lab-name") => format!("{}-{node}", scope.lab),
        Some(prefix) => format!("{prefix}-{}-{node}", scope.lab),
    }
}

/// `KEY=VALUE` lines; a later file wins, and `env` of any level beats them all.
fn env_files(
    place: &str,
    levels: &[&Fields],
    folder: &Path,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for at in appended(levels, |fields| &fields.env_files) {
        let path = absolute(&at.text, folder);
        match std::fs::read_to_string(&path) {
            Ok(text) => env.extend(text.lines().filter_map(|line| {
                let (key, value) = line.trim().split_once('=').filter(|(key, _)| !key.starts_with('#'))?;
                Some((key.trim().to_owned(), value.trim_matches('"').to_owned()))
            })),
            Err(error) => {
                let remedy = "create it or correct the path";
                let path = path.display();
                findings
                    .refuse(at.line, format!("{place}: env-file {path} cannot be read: {error}; {remedy}"));
            }
        }
    }
    env
}

fn environment(
    given: BTreeMap<String, String>,
    hostname: &str,
    own_labels: &[(&str, String)],
    labels: &BTreeMap<String, At>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), ENV_PATH.to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
    ]);
    let own = own_labels.iter().map(|(key, value)| (*key, value.as_str()));
    let given_labels = labels.iter().map(|(key, at)| (key.as_str(), at.text.as_str()));
    for (key, value) in own.chain(given_labels) {
        let key: String =
            key.chars().map(|c| if "-+./".contains(c) { '_' } else { c.to_ascii_uppercase() }).collect();
        env.insert(format!("CLAB_LABEL_{key}"), value.to_owned());
    }
    env.extend(given);
    env
}

fn plain(texts: &BTreeMap<String, At>) -> BTreeMap<String, String> {
    texts.iter().map(|(key, at)| (key.clone(), at.text.clone())).collect()
}
