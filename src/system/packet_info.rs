//! The address of this machine that a datagram was sent to, and from which the answer leaves (IP_PKTINFO in ip(7),
//! IPV6_RECVPKTINFO in ipv6(7)).
//!
//! A socket that is bound to every address needs this. Without it the kernel chooses the source of an answer by the
//! route, and a peer drops answers from an address that it did not ask. On a socket for both versions of IP, datagrams
//! of IPv4 come and go with the control message of IPv4.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use socket2::Socket;

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The address; never a multicast address.
    pub ip: IpAddr,
    /// The index of the network interface of a link-local address, otherwise 0.
    pub interface: u32,
}

/// Room for the control messages of one datagram: those of both versions of IP.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([MaybeUninit<u8>; 80]);

impl Control {
    pub const EMPTY: Self = Self([MaybeUninit::uninit(); 80]);

    /// Makes a receiving call put the control messages here.
    pub fn receive_by(&mut self, header: &mut libc::msghdr) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = self.0.len() as _;
    }

    /// Makes a sending call take `own` as the source.
    pub fn send_from(&mut self, own: Own, header: &mut libc::msghdr) {
        match own.ip {
            IpAddr::V4(ip) => {
                let ipi_spec_dst = libc::in_addr { s_addr: u32::from(ip).to_be() };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: libc::in_addr { s_addr: 0 } };
                self.put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(ip) => {
                let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: own.interface };
                self.put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    fn put<T>(&mut self, header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, info: T) {
        let len = size_of::<T>() as libc::c_uint;
        header.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: these two only compute lengths. The larger of the two structures fits into `self`, which is aligned
        // as a control message.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(len) as _;
            let message = libc::CMSG_FIRSTHDR(header);
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = libc::CMSG_LEN(len) as _;
            libc::CMSG_DATA(message).cast::<T>().write_unaligned(info);
        }
    }
}

/// Makes the system report the address that each datagram was sent to.
pub(crate) fn report_to(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
        if socket.only_v6()? {
            return Ok(());
        }
    }
    switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)
}

fn switch_on(socket: &Socket, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the length of the call, which reads one int of ours.
    let result = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address that a received datagram was sent to, if an answer can leave from there.
///
/// # Safety
/// A system call has filled in the header and its control messages, and both still exist.
pub(crate) unsafe fn asked(header: &libc::msghdr) -> Option<Own> {
    // SAFETY: the caller says that the messages are there; their data may be unaligned.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(next);
            let own = match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => own_v4(&data.cast::<libc::in_pktinfo>().read_unaligned()),
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => own_v6(&data.cast::<libc::in6_pktinfo>().read_unaligned()),
                _ => None,
            };
            if own.is_some() {
                return own;
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
    None
}

/// `ipi_spec_dst` is an address of ours also for a datagram to a broadcast or multicast address.
fn own_v4(info: &libc::in_pktinfo) -> Option<Own> {
    let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
    (!ip.is_unspecified()).then_some(Own { ip: ip.into(), interface: 0 })
}

fn own_v6(info: &libc::in6_pktinfo) -> Option<Own> {
    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
    // A datagram of IPv4 has a message of its own.
    let is_usable = !ip.is_multicast() && !ip.is_unspecified() && ip.to_ipv4_mapped().is_none();
    is_usable.then_some(Own { ip: ip.into(), interface })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> libc::msghdr {
        // SAFETY: all zeroes is a valid value of this C structure.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn the_source_of_an_answer_is_the_address_that_was_asked() {
        for (ip, interface) in [("127.0.0.2", 0), ("2001:db8::1", 0), ("fe80::1", 7)] {
            let own = Own { ip: ip.parse().expect(ip), interface };
            let (mut control, mut header) = (Control::EMPTY, header());
            control.send_from(own, &mut header);
            // SAFETY: the control message was just written, and `control` is alive.
            assert_eq!(unsafe { asked(&header) }, Some(own), "{ip}");
        }
    }

    #[test]
    fn no_answer_leaves_from_a_multicast_or_mapped_address() {
        for ip in ["ff02::1", "::", "::ffff:127.0.0.2", "0.0.0.0"] {
            let (mut control, mut header) = (Control::EMPTY, header());
            control.send_from(Own { ip: ip.parse().expect(ip), interface: 0 }, &mut header);
            // SAFETY: as above.
            assert_eq!(unsafe { asked(&header) }, None, "{ip}");
        }
    }

    #[test]
    fn without_control_messages_no_address_is_known() {
        // SAFETY: the header has no control messages.
        assert_eq!(unsafe { asked(&header()) }, None);
    }
}
