//! Which program of this machine stands for a container image.
//!
//! Registry, tag and digest are ignored. In order: the label `towpath.lab/run`, `entrypoint` with
//! `cmd`, `cmd`, the default of the image, else a refusal that names the label.

/// Label whose value is the command to run instead of what the image would.
pub const RUN_LABEL: &str = "towpath.lab/run";

/// Starts the FRR daemons that `/etc/frr/daemons` names and keeps them running, in the foreground.
const FRR: &str = ". /usr/lib/frr/frrcommon.sh; exec /usr/lib/frr/watchfrr $(daemon_list)";

/// What an image does by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Default {
    /// A shell or server that only exists to be exec'd into.
    Idle,
    Command(Vec<String>),
    /// `cmd` is appended to this, because the image has an entrypoint.
    Entrypoint(Vec<String>),
}

/// The main process of a node; empty: none, the node only exists.
pub(crate) fn main_command(
    image: &str,
    run_label: Option<&[String]>,
    entrypoint: &[String],
    cmd: &[String],
) -> Result<Vec<String>, String> {
    if let Some(run) = run_label {
        return Ok(run.to_vec());
    }
    if !entrypoint.is_empty() {
        return Ok([entrypoint, cmd].concat());
    }
    match (default_of(image), cmd) {
        (Some(Default::Entrypoint(command)), cmd) => Ok([&command, cmd].concat()),
        (Some(Default::Command(command)), []) => Ok(command),
        (Some(Default::Idle), []) => Ok(Vec::new()),
        (_, [_, ..]) => Ok(cmd.to_vec()),
        (None, []) => Err(format!(
            "no local program is known for image \"{image}\"; name one with the label {RUN_LABEL}: <command>"
        )),
    }
}

fn default_of(image: &str) -> Option<Default> {
    let path = image.split('@').next().unwrap_or_default();
    let mut parts = path.rsplit('/');
    let base = parts.next().unwrap_or_default().split(':').next().unwrap_or_default();
    let owner = parts.next().unwrap_or_default();
    let words = |command: &[&str]| command.iter().map(|word| (*word).to_owned()).collect();
    let known = match (owner, base) {
        (_, "towpath") => Default::Command(words(&["towpath", "agent", "-f", "/etc/towpath"])),
        (_, frr) if frr.starts_with("frr") => Default::Command(words(&["bash", "-c", FRR])),
        ("srl-labs", "bird") => Default::Entrypoint(words(&["bird", "-f", "-c", "/etc/bird.conf"])),
        (_, "bird") => Default::Command(words(&["bird", "-f", "-c", "/etc/bird/bird.conf"])),
        ("osrg", "gobgp") => Default::Idle,
        (_, "gobgp") => Default::Command(words(&["gobgpd", "-f", "/config/gobgp.toml"])),
        (_, "openbgpd") => Default::Command(words(&["bgpd", "-d", "-f", "/etc/bgpd/bgpd.conf"])),
        ("pierky", "exabgp") => Default::Command(words(&["exabgp", "/etc/exabgp/exabgp.conf"])),
        (_, "exabgp") => Default::Entrypoint(words(&["exabgp"])),
        (_, "alpine" | "debian" | "ubuntu" | "busybox") => Default::Idle,
        (_, base) if base.contains("netshoot") || base.contains("multitool") => Default::Idle,
        _ => return None,
    };
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_for_programs_of_the_machine() {
        let cases: &[(&str, &str, &str)] = &[
            ("towpath", "", "towpath agent -f /etc/towpath"),
            ("ghcr.io/towpath/towpath:v1", "", "towpath agent -f /etc/towpath"),
            ("registry.example:5000/towpath@sha256:00", "", "towpath agent -f /etc/towpath"),
            ("ghcr.io/srl-labs/bird:2", "-d", "bird -f -c /etc/bird.conf -d"),
            ("pierky/bird", "", "bird -f -c /etc/bird/bird.conf"),
            ("osrg/gobgp", "gobgpd -f /x", "gobgpd -f /x"),
            ("jauderho/gobgp", "", "gobgpd -f /config/gobgp.toml"),
            ("alpine:3", "", ""),
            ("alpine:3", "sleep infinity", "sleep infinity"),
            ("wbitt/network-multitool", "", ""),
            ("unknown", "true", "true"),
        ];
        for (image, cmd, expected) in cases {
            let cmd: Vec<String> = cmd.split_whitespace().map(str::to_owned).collect();
            assert_eq!(main_command(image, None, &[], &cmd).unwrap().join(" "), *expected, "{image}");
        }
        assert_eq!(main_command("quay.io/frrouting/frr:10.2", None, &[], &[]).unwrap()[2], FRR);
    }

    #[test]
    fn the_label_wins_and_an_unknown_image_is_refused_with_it() {
        let run = ["gobgpd".to_owned()];
        assert_eq!(main_command("unknown", Some(&run), &[], &["x".to_owned()]).unwrap(), run);
        assert_eq!(main_command("unknown", None, &run, &["x".to_owned()]).unwrap(), ["gobgpd", "x"]);
        assert!(main_command("unknown", None, &[], &[]).unwrap_err().contains(RUN_LABEL));
    }
}
