//! POSIX ACLs: from the binary form in which Linux keeps them in xattrs to the text that `tar --acls` reads.
//!
//! The binary form is version 2 of `linux/posix_acl_xattr.h`: a little-endian 2 (32 bits), then per entry a tag (16 bits),
//! permissions (16 bits) and a numeric id (32 bits). In the text ids stay numeric, so that no user database is asked.

/// The xattr of an access ACL, and the pax keyword that GNU tar, star and bsdtar read.
pub const ACCESS: (&[u8], &[u8]) = (b"system.posix_acl_access", b"SCHILY.acl.access");
/// The same of a default ACL, which only directories have.
pub const DEFAULT: (&[u8], &[u8]) = (b"system.posix_acl_default", b"SCHILY.acl.default");

const VERSION: [u8; 4] = 2u32.to_le_bytes();

/// `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`; `None` when the bytes are no ACL of version 2.
pub fn text(binary: &[u8]) -> Option<String> {
    let (entries, rest) = binary.strip_prefix(&VERSION)?.as_chunks::<8>();
    if !rest.is_empty() || entries.is_empty() {
        return None;
    }
    let words: Option<Vec<String>> = entries.iter().map(entry).collect();
    Some(words?.join(","))
}

fn entry(bytes: &[u8; 8]) -> Option<String> {
    let tag = u16::from_le_bytes([bytes[0], bytes[1]]);
    let perm = u16::from_le_bytes([bytes[2], bytes[3]]);
    let id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let who = match tag {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    if perm > 7 {
        return None;
    }
    let bit = |mask: u16, letter: char| if perm & mask != 0 { letter } else { '-' };
    Some(format!("{who}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `setfacl -m u:1000:r--,g:5:rw-` leaves in the xattr of a file with mode 0644, read by `getfattr -e hex`.
    const BINARY: &str =
        "0200000001000600ffffffff02000400e803000004000400ffffffff080006000500000010000600ffffffff20000400ffffffff";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_tag_has_its_word() {
        let said = text(&bytes(BINARY)).unwrap();
        assert_eq!(said, "user::rw-,user:1000:r--,group::r--,group:5:rw-,mask::rw-,other::r--");
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let whole = bytes(BINARY);
        for len in [0, 3, 4, 11, whole.len() - 1] {
            assert_eq!(text(&whole[..len]), None, "{len}");
        }
        for (at, value) in [(0, 3), (4, 3), (6, 9)] {
            let mut broken = whole.clone();
            broken[at] = value;
            assert_eq!(text(&broken), None, "{at}");
        }
    }
}
