//! The iPXE script that loads kernel and initrds over HTTP.

/// Why a script was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A URL is empty, not http(s), carries credentials, or has a character a script splits at.
    #[error("URL of {0} cannot stand in a script")]
    Url(&'static str),
    /// The command line has a control character or something iPXE would expand or split at.
    #[error("command line cannot stand in a script")]
    Cmdline,
}

/// What to boot. The script is readable by the whole boot network: nothing here may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where the kernel is.
    pub kernel: String,
    /// Where the initrds are, in load order.
    pub initrds: Vec<String>,
    /// The kernel command line.
    pub cmdline: String,
    /// Where a machine asks again that did not get all of it.
    pub again: String,
}

/// Seconds after which a machine that cannot boot asks again.
const AGAIN: u32 = 5;

/// Lines by which a machine asks again. The new DHCP exchange makes us check the machine's identity again and keeps its lease alive.
#[must_use]
pub fn again(url: &str) -> String {
    format!(
        "echo Asking again in {AGAIN} s\nsleep {AGAIN} ||\ndhcp ||\n\
         chain --autofree --replace {url} || reboot\n"
    )
}

impl Script {
    /// The text of the script. EFI stubs need one `initrd=` argument for each image. What fails would end the script, and the
    /// firmware would try something else, for ever; so the machine asks again.
    pub fn render(&self) -> Result<String, ScriptError> {
        check_url(&self.kernel, "kernel")?;
        if !clean(&self.cmdline) {
            return Err(ScriptError::Cmdline);
        }
        check_url(&self.again, "script")?;
        let mut out = format!("#!ipxe\nkernel --name kernel {} || goto again\n", self.kernel);
        let mut boot = String::from("boot kernel");
        let mut free = String::from("imgfree kernel ||\n");
        for (n, url) in self.initrds.iter().enumerate() {
            check_url(url, "initrd")?;
            out += &format!("initrd --name initrd{n} {url} || goto again\n");
            free += &format!("imgfree initrd{n} ||\n");
            boot += &format!(" initrd=initrd{n}");
        }
        if !self.cmdline.is_empty() {
            boot.push(' ');
            boot += &self.cmdline;
        }
        let told = "echo metal-boot: not all that this machine boots arrived\n";
        Ok(out + &boot + " || goto again\n:again\n" + told + &free + &again(&self.again))
    }
}

/// No control characters, variables, escapes, quotes, comments, or `&&`, `||` and `;`.
fn clean(text: &str) -> bool {
    let special = |c: char| c.is_control() || "$\\\"'#;".contains(c);
    !text.contains(special) && !text.contains("&&") && !text.contains("||")
}

fn check_url(url: &str, what: &'static str) -> Result<(), ScriptError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|r| r.split(['/', '?']).next()).unwrap_or("");
    if host.is_empty() || host.contains('@') || url.contains(char::is_whitespace) || !clean(url) {
        return Err(ScriptError::Url(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        Script {
            kernel: "http://10.0.0.1/vmlinuz".into(),
            initrds: vec!["http://10.0.0.1/a".into(), "http://10.0.0.1/b".into()],
            cmdline: "console=ttyS0 panic=1".into(),
            again: "http://10.0.0.1/boot.ipxe".into(),
        }
    }

    #[test]
    fn golden() {
        let want = "#!ipxe\nkernel --name kernel http://10.0.0.1/vmlinuz || goto again\n\
            initrd --name initrd0 http://10.0.0.1/a || goto again\n\
            initrd --name initrd1 http://10.0.0.1/b || goto again\n\
            boot kernel initrd=initrd0 initrd=initrd1 console=ttyS0 panic=1 || goto again\n\
            :again\necho metal-boot: not all that this machine boots arrived\n\
            imgfree kernel ||\nimgfree initrd0 ||\nimgfree initrd1 ||\n\
            echo Asking again in 5 s\nsleep 5 ||\ndhcp ||\n\
            chain --autofree --replace http://10.0.0.1/boot.ipxe || reboot\n";
        assert_eq!(script().render().unwrap(), want);
    }

    #[test]
    fn injection_is_refused() {
        for bad in ["a\nshell", "a\rb", "${net0/mac}", "a && shell", "a || b", "a ; b"] {
            let cmdline = bad.to_owned();
            assert_eq!(Script { cmdline, ..script() }.render(), Err(ScriptError::Cmdline));
            let initrds = vec![format!("http://h/{bad}")];
            assert_eq!(Script { initrds, ..script() }.render(), Err(ScriptError::Url("initrd")));
        }
        for bad in ["", "file:///etc/passwd", "http://user:pw@h/x", "http://h/a b"] {
            let kernel = bad.to_owned();
            assert_eq!(Script { kernel, ..script() }.render(), Err(ScriptError::Url("kernel")));
        }
    }
}
