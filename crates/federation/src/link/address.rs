//! Where a link may lead. Addresses to dial are the steward's alone; what a name resolves to is not, so a name never leads
//! into this machine or to its neighbours on the wire (fault 31: DNS rebinding).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};

/// Whether a connection may go there. `is_literal`: the steward wrote this very address, so only what no host can have is
/// refused.
fn is_allowed(ip: IpAddr, is_literal: bool) -> bool {
    let ip = ip.to_canonical();
    let is_nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_near = ip.is_loopback()
        || match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.octets()[0] == 0,
            IpAddr::V6(ip) => is_v6_near(&ip),
        };
    !is_nobody && (is_literal || !is_near)
}

/// fe80::/10, and IPv4 in the forms that some systems still route.
fn is_v6_near(ip: &Ipv6Addr) -> bool {
    let head = ip.segments();
    let embedded = match head {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    let v4 = embedded.map(|(high, low)| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    head[0] & 0xffc0 == 0xfe80 || v4.is_some_and(|v4| !is_allowed(IpAddr::V4(v4), false))
}

fn refused(address: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{address} leads into this machine or its own network segment; if that is meant, write the numbers instead of the name"),
    )
}

/// Connects to HOST:PORT. A name is looked up once; what was looked at is what is connected to.
pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let is_literal = address.parse::<SocketAddr>().is_ok();
    // This machine's own name for itself is as plain as its numbers.
    let is_own = address.rsplit_once(':').is_some_and(|(host, _)| host.eq_ignore_ascii_case("localhost"));
    let mut last = None;
    for resolved in lookup_host(address).await? {
        if !is_allowed(resolved.ip(), is_literal || (is_own && resolved.ip().is_loopback())) {
            last = Some(refused(address));
            continue;
        }
        match TcpStream::connect(resolved).await {
            Ok(tcp) if tcp.peer_addr()? == resolved => return Ok(tcp),
            Ok(_) => last = Some(refused(address)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_31_a_name_does_not_lead_inside() {
        let inside = [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::127.0.0.1",
            "0.1.2.3",
        ];
        for address in inside {
            assert!(!is_allowed(address.parse().unwrap(), false), "{address} by name");
        }
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(!is_allowed(address.parse().unwrap(), true), "{address} is nobody's");
        }
        for address in ["127.0.0.1", "::1", "192.0.2.7", "10.0.0.7"] {
            assert!(is_allowed(address.parse().unwrap(), true), "{address} was written by the steward");
        }
        for address in ["192.0.2.7", "2001:db8::1", "10.0.0.7", "192.168.1.7", "64:ff9b::c000:207"] {
            assert!(is_allowed(address.parse().unwrap(), false), "{address}");
        }
    }
}
