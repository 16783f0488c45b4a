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

/// The binary form of what [`text`] wrote.
pub fn binary(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = VERSION.to_vec();
    for entry in std::str::from_utf8(text).ok()?.split(',') {
        let (who, perm) = entry.rsplit_once(':')?;
        let (tag, id): (u16, u32) = match who.split_once(':')? {
            ("user", "") => (0x01, u32::MAX),
            ("user", id) => (0x02, id.parse().ok()?),
            ("group", "") => (0x04, u32::MAX),
            ("group", id) => (0x08, id.parse().ok()?),
            ("mask", "") => (0x10, u32::MAX),
            ("other", "") => (0x20, u32::MAX),
            _ => return None,
        };
        let letters = [(b'r', 4_u16), (b'w', 2), (b'x', 1)];
        let bits = <[u8; 3]>::try_from(perm.as_bytes()).ok()?.into_iter().zip(letters);
        let bits = bits.map(|(found, (letter, bit))| match found {
            b'-' => Some(0),
            found if found == letter => Some(bit),
            _ => None,
        });
        let perm = bits.sum::<Option<u16>>()?;
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&perm.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    Some(out)
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
        assert_eq!(binary(said.as_bytes()).unwrap(), bytes(BINARY));
    }

    #[test]
    fn text_that_is_no_acl_is_refused() {
        for text in [
            "",
            "user::rw",
            "user:rw-",
            "nobody::rw-",
            "user:x:rw-",
            "mask:1:rw-",
            "user::rwz",
            "user::wr-",
            "user::rw-,",
        ] {
            assert_eq!(binary(text.as_bytes()), None, "{text}");
        }
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
