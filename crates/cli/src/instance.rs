//! Ports and folders of one instance, so that several networks fit on one machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Largest instance number: ports stay below 65,536.
const INSTANCE_MAX: u16 = 5_000;

/// The five ports of a network on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) client_http: u16,
    pub(crate) proxy_http: u16,
    pub(crate) proxy_workers: u16,
    pub(crate) proxy_clients: u16,
    pub(crate) worker_http: u16,
}

impl Ports {
    /// The customary ports, moved by ten for each instance.
    ///
    /// # Errors
    /// If the instance number would lead beyond the range of ports.
    pub(crate) fn of_instance(instance: u16) -> Result<Self> {
        ensure!(instance <= INSTANCE_MAX, "--instance {instance}: at most {INSTANCE_MAX}");
        let moved = instance * 10;
        Ok(Self {
            client_http: 10_000 + moved,
            proxy_http: 11_000 + moved,
            proxy_workers: 11_001 + moved,
            proxy_clients: 11_002 + moved,
            worker_http: 12_000 + moved,
        })
    }

    /// Five ports that are free now, chosen by the system.
    ///
    /// # Errors
    /// If the system has none.
    pub(crate) fn free() -> Result<Self> {
        // All five are held until all are known, so that they differ.
        let held: Vec<_> = (0..5)
            .map(|_index| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> =
            held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<_>>()?;
        let [client_http, proxy_http, proxy_workers, proxy_clients, worker_http] = ports[..] else {
            bail!("five listeners have five ports");
        };
        Ok(Self { client_http, proxy_http, proxy_workers, proxy_clients, worker_http })
    }
}

/// `port` on the IPv4 loopback address.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The state folder of `name`: the given one, or one in the user's data folder.
///
/// # Errors
/// If the user has no home folder and none was given.
pub(crate) fn state_folder(given: Option<&Path>, name: &str, instance: u16) -> Result<PathBuf> {
    if let Some(folder) = given {
        return std::path::absolute(folder).context("--state");
    }
    let Some(folders) = directories::ProjectDirs::from("", "", "cocoon") else {
        bail!("this user has no home folder: name a state folder with --state");
    };
    let folder = if instance == 0 { name.to_owned() } else { format!("{name}-{instance}") };
    Ok(folders.data_dir().join(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_move_every_port_by_ten() {
        let (first, third) = (Ports::of_instance(0).unwrap(), Ports::of_instance(3).unwrap());
        assert_eq!((first.client_http, first.proxy_clients, first.worker_http), (10_000, 11_002, 12_000));
        assert_eq!((third.client_http, third.proxy_clients, third.worker_http), (10_030, 11_032, 12_030));
        assert!(Ports::of_instance(INSTANCE_MAX).is_ok());
        assert!(Ports::of_instance(INSTANCE_MAX + 1).is_err());
    }
}
