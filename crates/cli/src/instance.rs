//! Ports and folders of one instance, so that several networks fit on one machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpSocket;

/// Largest instance number: ports stay below 65,536.
const INSTANCE_MAX: u16 = 5_000;

/// The six ports of a network on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) client_http: u16,
    pub(crate) proxy_http: u16,
    pub(crate) proxy_workers: u16,
    pub(crate) proxy_clients: u16,
    pub(crate) worker_http: u16,
    pub(crate) chain_http: u16,
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
            chain_http: 13_000 + moved,
        })
    }
}

/// Six ports that the system chose. Nobody but our own listeners gets them for as long as this lives.
pub(crate) struct FreePorts {
    pub(crate) ports: Ports,
    _held: Vec<TcpSocket>,
}

impl FreePorts {
    /// # Errors
    /// If the system has none.
    pub(crate) fn take() -> Result<Self> {
        let held: Vec<_> = (0..6).map(|_index| hold(0)).collect::<Result<_, _>>()?;
        let ports: Vec<u16> =
            held.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<Result<_>>()?;
        let [client_http, proxy_http, proxy_workers, proxy_clients, worker_http, chain_http] = ports[..]
        else {
            bail!("six sockets have six ports");
        };
        let ports = Ports { client_http, proxy_http, proxy_workers, proxy_clients, worker_http, chain_http };
        // Elsewhere a port that is held is one that nobody can listen on, ourselves included.
        Ok(Self { ports, _held: if cfg!(target_os = "linux") { held } else { Vec::new() } })
    }
}

/// Takes a port, or with 0 any, without listening on it. On Linux whoever allows an address to be used again, as our
/// listeners do, can listen there beside it. The system gives a held port to nobody else, as the near end of a
/// connection neither: not to a stranger, and not to a role that tries a port on which another has yet to listen.
fn hold(port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(loopback(port))?;
    Ok(socket)
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
        assert_eq!((first.chain_http, third.chain_http), (13_000, 13_030));
        assert!(Ports::of_instance(INSTANCE_MAX).is_ok());
        assert!(Ports::of_instance(INSTANCE_MAX + 1).is_err());
    }

    #[test]
    fn free_ports_are_ours_alone() {
        let free = FreePorts::take().unwrap();
        let address = loopback(free.ports.client_http);
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens yet");
        drop(std::net::TcpListener::bind(address).unwrap());
        if cfg!(target_os = "linux") {
            let stranger = TcpSocket::new_v4().unwrap();
            assert!(stranger.bind(address).is_err(), "it is held, also after a role was stopped");
        }
    }
}
