//! Keys and certificates of a cluster, and what clients are given to come in with.
//!
//! The API server has one certificate, which is also its own to the kubelets; everybody else has a token. openssl(1)
//! makes them, elliptic curves because RSA keys take their time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;

/// Names and addresses by which the API server is reached, beside those of its node.
const NAMES: &str = "IP:127.0.0.1,IP:::1,IP:10.96.0.1,IP:fd00:96::1,DNS:localhost,DNS:kubernetes,\
                     DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local";

/// The folder with the keys.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes them in `folder`, for an API server at `addresses`.
    ///
    /// # Errors
    /// With the words of openssl.
    pub(crate) fn make(folder: &Path, addresses: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let pki = Self { folder: folder.to_owned() };
        let names = addresses.iter().map(|address| format!("IP:{address},")).collect::<String>() + NAMES;
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30";
        openssl(
            folder,
            &format!(
                "req -x509 {key} -subj /CN=towpath-test -keyout ca.key -out ca.crt \
                 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature"
            ),
        )?;
        // A client that is the API server may do everything: the kubelets believe its organization.
        openssl(
            folder,
            &format!(
                "req -x509 -CA ca.crt -CAkey ca.key {key} -subj /O=system:masters/CN=kube-apiserver \
                 -keyout apiserver.key -out apiserver.crt -addext basicConstraints=critical,CA:FALSE \
                 -addext extendedKeyUsage=serverAuth,clientAuth -addext subjectAltName={names}"
            ),
        )?;
        openssl(folder, "ecparam -name prime256v1 -genkey -noout -out sa.key")?;
        openssl(folder, "ec -in sa.key -pubout -out sa.pub")?;
        Ok(pki)
    }

    /// The path of one file: `ca.crt`, `apiserver.crt`, `apiserver.key`, `sa.key`, `sa.pub`.
    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Writes a kubeconfig for the bearer of `token`.
    ///
    /// # Errors
    /// When the disk is full.
    pub(crate) fn kubeconfig(&self, path: &Path, url: &str, token: &str) -> anyhow::Result<()> {
        self.kubeconfig_on(path, url, &self.path("ca.crt"), token)
    }

    /// As [`Pki::kubeconfig`], for a machine that has the authority's certificate at `authority`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn kubeconfig_on(
        &self,
        path: &Path,
        url: &str,
        authority: &str,
        token: &str,
    ) -> anyhow::Result<()> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": url, "certificate-authority": authority } }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        fs::write(path, config.to_string()).with_context(|| format!("writing {}", path.display()))
    }
}

fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split_whitespace()).current_dir(folder).output();
    let output = output.context("running openssl; run: make setup")?;
    ensure!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
