//! A chain of plugins for one pod: forwards for ADD and CHECK, backwards for DEL, `lo` first and last.
//!
//! In: a [`Record`], which names the pod, its network and what was asked for. Out: the last plugin's result.
//! Each plugin sees the result of the one before as `prevResult`, and of what the runtime wants only the
//! capabilities that it names. Source: CNI specification 1.1, section 3.

use serde_json::{Map, Value, json};

use super::conflist::{Conflist, has};
use super::plugin::{Environment, call};
use super::record::Record;

/// The chain of one pod.
pub(super) struct Chain<'c> {
    record: &'c Record,
    loopback: Conflist,
    path: &'c str,
}

impl<'c> Chain<'c> {
    pub(super) fn of(record: &'c Record, path: &'c str) -> Self {
        Self { record, loopback: Conflist::loopback(&record.conflist.version), path }
    }

    /// Connects the pod.
    ///
    /// # Errors
    /// The first plugin's that fails.
    pub(super) fn add(&self) -> anyhow::Result<Value> {
        for plugin in &self.loopback.plugins {
            call("ADD", &self.environment("lo"), &self.config(&self.loopback, plugin, None))?;
        }
        let conflist = &self.record.conflist;
        let mut result: Option<Value> = None;
        for plugin in &conflist.plugins {
            let config = self.config(conflist, plugin, result.as_ref());
            result = call("ADD", &self.environment(&self.record.ifname), &config)?;
        }
        result.ok_or_else(|| {
            anyhow::anyhow!("ADD: the last plugin of network {} gave no result", conflist.name)
        })
    }

    /// Disconnects the pod. Every plugin is called; gives what failed.
    pub(super) fn del(&self) -> Vec<anyhow::Error> {
        let conflist = &self.record.conflist;
        // Older plugins are not told what they answered then.
        let result = self.record.result.as_ref().filter(|_| conflist.is_since("0.4.0"));
        let own = conflist.plugins.iter().rev().map(|plugin| {
            call("DEL", &self.environment(&self.record.ifname), &self.config(conflist, plugin, result))
        });
        let loopback =
            self.loopback.plugins.iter().map(|plugin| {
                call("DEL", &self.environment("lo"), &self.config(&self.loopback, plugin, None))
            });
        own.chain(loopback).filter_map(Result::err).collect()
    }

    /// Asks whether all is as it was made.
    ///
    /// # Errors
    /// The first plugin's that finds a difference, or when the network's version has no CHECK.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let conflist = &self.record.conflist;
        anyhow::ensure!(
            conflist.is_since("0.4.0"),
            "network {} speaks version {}, and CHECK came with 0.4.0",
            conflist.name,
            conflist.version
        );
        if conflist.disable_check {
            return Ok(());
        }
        for plugin in &conflist.plugins {
            let config = self.config(conflist, plugin, self.record.result.as_ref());
            call("CHECK", &self.environment(&self.record.ifname), &config)?;
        }
        Ok(())
    }

    /// Asks whether pods can be connected at all, as runtimes do every few seconds. Plugins before 1.1.0 cannot
    /// be asked, and are taken to be ready.
    ///
    /// # Errors
    /// The first plugin's that is not ready.
    pub(super) fn status(conflist: &Conflist, path: &str) -> anyhow::Result<()> {
        if !conflist.is_since("1.1.0") {
            return Ok(());
        }
        let environment = Environment { container_id: "", netns: "", ifname: "", pod: "", path };
        for plugin in &conflist.plugins {
            call("STATUS", &environment, &named(conflist, plugin))?;
        }
        Ok(())
    }

    fn environment<'e>(&'e self, ifname: &'e str) -> Environment<'e> {
        let there = self.record.netns.exists();
        Environment {
            container_id: &self.record.container_id,
            netns: if there { self.record.netns.to_str().unwrap_or_default() } else { "" },
            ifname,
            pod: &self.record.name,
            path: self.path,
        }
    }

    /// A plugin's standard input.
    fn config(
        &self,
        conflist: &Conflist,
        plugin: &Map<String, Value>,
        result: Option<&Value>,
    ) -> Map<String, Value> {
        let mut config = named(conflist, plugin);
        let wanted = self.record.wanted.iter().filter(|(capability, _)| has(plugin, capability));
        let wanted: Map<String, Value> = wanted.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !wanted.is_empty() {
            config.insert("runtimeConfig".to_owned(), wanted.into());
        }
        if let Some(result) = result {
            config.insert("prevResult".to_owned(), result.clone());
        }
        config
    }
}

/// A plugin's object with what belongs to its network.
fn named(conflist: &Conflist, plugin: &Map<String, Value>) -> Map<String, Value> {
    let mut config = plugin.clone();
    config.insert("cniVersion".to_owned(), json!(conflist.version));
    config.insert("name".to_owned(), json!(conflist.name));
    config
}
