//! The user `metal`: what `useradd` would write, without running anything of the image.

use std::fs;
use std::path::Path;

use super::{Machine, OsFile, folder, text};

/// Numbers of a user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Of the user.
    pub uid: u32,
    /// Of the group.
    pub gid: u32,
}

impl Owner {
    /// The superuser.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// The name that every image's documentation uses.
const NAME: &str = "metal";
const UID: u32 = 1000;

/// The image's tables of users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    passwd: String,
    shadow: String,
    group: String,
}

impl Accounts {
    /// Reads an unpacked image; what is missing is empty.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(root.join("etc").join(name)).unwrap_or_default();
        Self { passwd: read("passwd"), shadow: read("shadow"), group: read("group") }
    }

    /// Numbers of a user and its group by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Owner> {
        let mut fields = line(&self.passwd, name)?.split(':').skip(2);
        Some(Owner { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }

    fn group(&self, name: &str) -> Option<u32> {
        line(&self.group, name)?.split(':').nth(2)?.parse().ok()
    }

    /// The changed tables, and the user's folder with the keys.
    pub(super) fn files(&self, machine: &Machine<'_>) -> Vec<OsFile> {
        let admin = self.group("sudo").or_else(|| self.group("wheel"));
        let gid = admin.unwrap_or(UID);
        let owner = Owner { uid: UID, gid };
        let shadow_group = Owner { uid: 0, gid: self.group("shadow").unwrap_or(0) };
        let passwd =
            with(&self.passwd, NAME, &format!("{NAME}:x:{UID}:{gid}::/home/{NAME}:/bin/bash"));
        let shadow = with(
            &self.shadow,
            NAME,
            &format!("{NAME}:{}:{}:0:99999:7:::", machine.password_hash, machine.today),
        );
        let mut files = vec![
            text("/etc/passwd", 0o644, passwd),
            OsFile { owner: shadow_group, ..text("/etc/shadow", 0o640, shadow) },
        ];
        if admin.is_none() {
            files.push(text(
                "/etc/group",
                0o644,
                with(&self.group, NAME, &format!("{NAME}:x:{gid}:")),
            ));
        }
        let keys: String = machine
            .allocation
            .ssh_public_keys
            .iter()
            .map(|key| format!("{}\n", key.trim()))
            .collect();
        files.push(folder("/home/metal", 0o700, owner));
        files.push(folder("/home/metal/.ssh", 0o700, owner));
        files.push(OsFile { owner, ..text("/home/metal/.ssh/authorized_keys", 0o600, keys) });
        files
    }
}

fn line<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    table.lines().find(|line| line.split(':').next() == Some(name))
}

/// The table with exactly one line of this name, at its end.
fn with(table: &str, name: &str, line: &str) -> String {
    let mut lines: Vec<_> = table.lines().filter(|l| l.split(':').next() != Some(name)).collect();
    lines.push(line);
    lines.join("\n") + "\n"
}

/// A password hash for `/etc/shadow` (SHA-512 with 5000 rounds, as Debian's default).
///
/// # Errors
/// When the random source of the kernel fails.
pub fn hash(password: &str, salt: &str) -> Result<String, String> {
    let params = sha_crypt::Sha512Params::new(5000).map_err(|e| format!("{e:?}"))?;
    let hash = sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &params)
        .map_err(|e| format!("{e:?}"))?;
    Ok(format!("$6${salt}${hash}"))
}

/// Random characters that need no escaping anywhere.
#[must_use]
pub fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let random = uuid::Uuid::new_v4().into_bytes();
        // bytes 6 and 8 of a UUID are partly fixed
        bytes.extend(
            random.iter().enumerate().filter(|(at, _)| *at != 6 && *at != 8).map(|(_, byte)| *byte),
        );
    }
    bytes[..length].iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Content, tests};
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\nmetal:x:1:1::/old:/bin/sh\nfrr:x:101:102::/nonexistent:/usr/sbin/nologin\n".into(),
            shadow: "root:*:20000:0:99999:7:::\n".into(),
            group: "root:x:0:\nsudo:x:27:\nshadow:x:42:\n".into(),
        }
    }

    #[test]
    fn metal_is_an_administrator() {
        let allocation = tests::allocation();
        let files = accounts().files(&tests::machine(&allocation));
        let content = |at: usize| match &files[at].content {
            Content::Text(text) => text.as_str(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            content(0),
            "root:x:0:0:root:/root:/bin/bash\nfrr:x:101:102::/nonexistent:/usr/sbin/nologin\nmetal:x:1000:27::/home/metal:/bin/bash\n"
        );
        assert_eq!(
            content(1),
            "root:*:20000:0:99999:7:::\nmetal:$6$salt$hash:20778:0:99999:7:::\n"
        );
        assert_eq!(files[1].owner, Owner { uid: 0, gid: 42 });
        assert_eq!(files[2].owner, Owner { uid: 1000, gid: 27 });
        assert_eq!(content(4), "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n");
        assert_eq!(accounts().user("frr"), Some(Owner { uid: 101, gid: 102 }));
        assert_eq!(accounts().user("nobody"), None);
    }

    #[test]
    fn the_hash_is_what_crypt_says() {
        // openssl passwd -6 -salt saltsalt secret
        let wanted = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1";
        assert_eq!(hash("secret", "saltsalt").unwrap(), wanted);
    }

    #[test]
    fn random_texts_differ() {
        let (a, b) = (random_text(16), random_text(16));
        assert_eq!((a.len(), b.len()), (16, 16));
        assert_ne!(a, b);
    }
}
