//! What the commands print that `discover` runs on a server, and `ldev.conf`.

/// All that was found on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Mounted targets.
    pub mounts: Vec<Mount>,
    /// Imported pools.
    pub pools: Vec<String>,
    /// Datasets with a target's label, mounted or not: dataset and label.
    pub datasets: Vec<(String, String)>,
    /// Block devices with a target's label, mounted or not: device and label.
    pub devices: Vec<(String, String)>,
    /// Its `ldev.conf`.
    pub ldev: Vec<LdevLine>,
    /// What was odd, for people.
    pub warnings: Vec<String>,
}

/// A mounted target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device or dataset.
    pub device: String,
    /// Where.
    pub mountpoint: String,
    /// `lustre-OST0000`, `MGS`.
    pub label: String,
}

/// A line of `ldev.conf`: `local foreign label device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdevLine {
    /// Where the target belongs.
    pub local: String,
    /// Where else it may run.
    pub foreign: Option<String>,
    /// `lustre-OST0000`.
    pub label: String,
    /// Device or dataset.
    pub device: String,
    /// It is a dataset.
    pub zfs: bool,
}

/// Run by `sh` on each server. Parts are told apart by lines that no command prints.
pub const SCRIPT: &str = r#"PATH=$PATH:/sbin:/usr/sbin:/usr/local/sbin
export PATH LC_ALL=C
echo "=====mount"; mount -t lustre
echo "=====zpool"; if command -v zpool >/dev/null 2>&1; then zpool list -H -o name; fi
echo "=====zfs"; if command -v zfs >/dev/null 2>&1; then zfs get -H -o name,value -s local -t filesystem lustre:svname; fi
echo "=====blkid"; if command -v blkid >/dev/null 2>&1; then blkid -o full -s LABEL -s TYPE; fi
echo "=====ldev"; if [ -r /etc/ldev.conf ]; then cat /etc/ldev.conf; fi
echo "=====end"
"#;

/// Reads the output of [`SCRIPT`].
///
/// # Errors
/// Fails if it does not reach its end.
pub fn output(text: &str) -> Result<Found, String> {
    let mut found = Found::default();
    let mut part = "";
    let mut ldev = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=====") {
            part = name;
            continue;
        }
        match part {
            "mount" => found.mounts.extend(mount(line)),
            "zpool" => found.pools.extend(pool(line)),
            "zfs" => found.datasets.extend(dataset(line)),
            "blkid" => found.devices.extend(device(line)),
            "ldev" => {
                ldev.push_str(line);
                ldev.push('\n');
            }
            // What the login shell says before it begins.
            _ => {}
        }
    }
    if part != "end" {
        return Err("its answer is not complete".to_owned());
    }
    let (lines, warnings) = ldev_conf(&ldev, "ldev.conf");
    found.ldev = lines;
    found.warnings = warnings;
    Ok(found)
}

/// A line of `mount -t lustre`: `DEVICE on DIRECTORY type lustre (OPTIONS)`. A client's mount is none of ours: it has no
/// `svname`.
pub fn mount(line: &str) -> Option<Mount> {
    let (device, rest) = line.split_once(" on ")?;
    let (mountpoint, options) = rest.rsplit_once(" type lustre (")?;
    let label = options.trim_end_matches(')').split(',').find_map(|option| option.strip_prefix("svname="))?;
    is_label(label).then(|| Mount {
        device: device.to_owned(),
        mountpoint: mountpoint.to_owned(),
        label: normal(label),
    })
}

/// A line of `zpool list -H -o name`.
pub fn pool(line: &str) -> Option<String> {
    let name = line.trim();
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

/// A line of `zfs get -H -o name,value lustre:svname`.
fn dataset(line: &str) -> Option<(String, String)> {
    let (name, label) = line.split_once('\t')?;
    is_label(label).then(|| (name.to_owned(), normal(label)))
}

/// A line of `blkid -o full`: `/dev/sda: LABEL="lustre-OST0000" TYPE="ext4"`.
fn device(line: &str) -> Option<(String, String)> {
    let (device, tags) = line.split_once(": ")?;
    let label = tags.split_once("LABEL=\"")?.1.split_once('"')?.0;
    is_label(label).then(|| (device.to_owned(), normal(label)))
}

/// `MGS`, or a file system's name and a target's: `lustre-OST0000`, with `:` before its first mount and `=` after a
/// writeconf.
fn is_label(label: &str) -> bool {
    if label == "MGS" {
        return true;
    }
    let Some(at) = label.rfind(['-', ':', '=']) else { return false };
    let (fsname, target) = (&label[..at], &label[at + 1..]);
    let number = target.strip_prefix("OST").or_else(|| target.strip_prefix("MDT"));
    !fsname.is_empty()
        && fsname.len() <= 8
        && fsname.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && number
            .is_some_and(|number| number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A label as it is once the target has been mounted.
fn normal(label: &str) -> String {
    match label.rfind(['-', ':', '=']) {
        Some(at) => format!("{}-{}", &label[..at], &label[at + 1..]),
        None => label.to_owned(),
    }
}

/// Reads an `ldev.conf`: `local foreign|- label [md|zfs:]device [journal|- [raidtab]]`, `#` begins a comment. Lines that
/// cannot be read are told.
pub fn ldev_conf(text: &str, file: &str) -> (Vec<LdevLine>, Vec<String>) {
    let mut lines = Vec::new();
    let mut warnings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let mut wrong = |what: &str| warnings.push(format!("{file}:{}: {what}: {line:?}", number + 1));
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[local, foreign, label, device, ..] = fields.as_slice() else {
            wrong("not four fields");
            continue;
        };
        if !is_label(label) {
            wrong("no label of a Lustre target");
            continue;
        }
        let (zfs, device) = match device.split_once(':') {
            Some(("zfs", device)) => (true, device),
            Some(("md", device)) => {
                wrong("the array under an md device is not taken care of");
                (false, device)
            }
            _ => (false, device),
        };
        if fields.get(4).is_some_and(|journal| *journal != "-") {
            wrong("the external journal is not taken care of");
        }
        lines.push(LdevLine {
            local: local.to_owned(),
            foreign: (foreign != "-").then(|| foreign.to_owned()),
            label: normal(label),
            device: device.to_owned(),
            zfs,
        });
    }
    (lines, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_targets_are_found() {
        let line = "oss01e0/ost2 on /mnt/ost2 type lustre \
                    (ro,svname=test-OST0002,mgsnode=10.0.0.1@tcp:10.0.0.2@tcp,osd=osd-zfs)";
        let wanted = Mount {
            device: "oss01e0/ost2".into(),
            mountpoint: "/mnt/ost2".into(),
            label: "test-OST0002".into(),
        };
        assert_eq!(mount(line), Some(wanted));
        let line = "/dev/mapper/mgs on /mnt/a b type lustre (ro,svname=MGS,nosvc,mgs,osd=osd-ldiskfs)";
        assert_eq!(mount(line).unwrap().mountpoint, "/mnt/a b");
        for other in [
            "10.0.0.1@tcp:/test on /test type lustre (rw,flock,lazystatfs)",
            "tmpfs on /run type tmpfs (rw,svname=x)",
            "a on b type lustre (svname=x)",
            "",
            "on",
        ] {
            assert_eq!(mount(other), None, "{other}");
        }
    }

    #[test]
    fn pools_are_found() {
        assert_eq!(
            "zpool_1\nzpool_2\n\n".lines().filter_map(pool).collect::<Vec<_>>(),
            ["zpool_1", "zpool_2"]
        );
        assert_eq!(pool("no pools available"), None);
    }

    #[test]
    fn labels_are_known() {
        for (line, wanted) in [
            ("/dev/sda: LABEL=\"lustre-OST0000\" TYPE=\"ext4\"", Some(("/dev/sda", "lustre-OST0000"))),
            ("/dev/sda: LABEL=\"lustre:OST00fa\" TYPE=\"ext4\"", Some(("/dev/sda", "lustre-OST00fa"))),
            ("/dev/sda: TYPE=\"ext4\" LABEL=\"lu-st=MDT0001\"", Some(("/dev/sda", "lu-st-MDT0001"))),
            ("/dev/md0: LABEL=\"MGS\" TYPE=\"ext4\"", Some(("/dev/md0", "MGS"))),
            ("/dev/sda: LABEL=\"root\" TYPE=\"ext4\"", None),
            ("/dev/sda: LABEL=\"lustre-OST000\" TYPE=\"ext4\"", None),
            ("/dev/sda: LABEL=\"lustre-XXX0000\" TYPE=\"ext4\"", None),
            ("/dev/sda: LABEL=\"toolonger-OST0000\" TYPE=\"ext4\"", None),
            ("/dev/sda: TYPE=\"swap\"", None),
            ("LABEL=\"MGS\"", None),
        ] {
            let wanted = wanted.map(|(device, label)| (device.to_owned(), label.to_owned()));
            assert_eq!(device(line), wanted, "{line}");
        }
        assert_eq!(dataset("tank/ost0\tlustre:OST0000"), Some(("tank/ost0".into(), "lustre-OST0000".into())));
        assert_eq!(dataset("tank/ost0\t-"), None);
    }

    #[test]
    fn ldev_conf_is_read() {
        let text = "# pairs\noss1 oss2 lustre-OST0000 zfs:pool1/ost0\noss2  - lustre-OST0001 /dev/mapper/ost1 # c\n\
                    mds1 mds2 MGS md:/dev/md0\nmds1 mds2 lustre-MDT0000 /dev/sdb /dev/sdj\nshort line\na b c d\n";
        let (lines, warnings) = ldev_conf(text, "F");
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line.local.as_str(),
                    line.foreign.as_deref(),
                    line.label.as_str(),
                    line.device.as_str(),
                    line.zfs,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("oss1", Some("oss2"), "lustre-OST0000", "pool1/ost0", true),
                ("oss2", None, "lustre-OST0001", "/dev/mapper/ost1", false),
                ("mds1", Some("mds2"), "MGS", "/dev/md0", false),
                ("mds1", Some("mds2"), "lustre-MDT0000", "/dev/sdb", false),
            ]
        );
        assert_eq!(
            warnings,
            [
                "F:4: the array under an md device is not taken care of: \"mds1 mds2 MGS md:/dev/md0\"",
                "F:5: the external journal is not taken care of: \"mds1 mds2 lustre-MDT0000 /dev/sdb /dev/sdj\"",
                "F:6: not four fields: \"short line\"",
                "F:7: no label of a Lustre target: \"a b c d\"",
            ]
        );
    }

    #[test]
    fn a_whole_answer() {
        let text = "Welcome!\n=====mount\np/o on /m type lustre (ro,svname=l-OST0000,osd=osd-zfs)\n=====zpool\np\nrpool\n\
                    =====zfs\np/o\tl-OST0000\n=====blkid\n/dev/sda: LABEL=\"MGS\" TYPE=\"ext4\"\n=====ldev\n\
                    a b l-OST0000 zfs:p/o\nx\n=====end\n";
        let found = output(text).unwrap();
        assert_eq!((found.mounts.len(), found.pools.len(), found.datasets.len()), (1, 2, 1));
        assert_eq!((found.devices.len(), found.ldev.len(), found.warnings.len()), (1, 1, 1));
        assert!(output("=====mount\n").is_err());
        assert!(output("").is_err());
    }

    proptest::proptest! {
        /// Servers may answer with anything.
        #[test]
        fn no_answer_breaks_the_reader(lines in proptest::collection::vec(
            "(=====(mount|zpool|zfs|blkid|ldev|end)|.{0,30}|a on b type lustre \\(svname=.{0,9}\\)|/d: LABEL=\"[a-z:=-]{0,9}OST0000\".*|a b c-MDT0000 .{0,9})", 0..20)) {
            if let Ok(found) = output(&(lines.join("\n") + "\n=====end")) {
                let (groups, _) = super::super::layout::groups(&[("h".to_owned(), found)], &[], "/m");
                let text = super::super::yaml::render(&["h".to_owned()], &groups);
                if !groups.is_empty() {
                    let loaded = crate::ha::config::load(&text, "f");
                    let problems = loaded.err().unwrap_or_default();
                    // Odd names may be refused, but it is YAML with our keys.
                    proptest::prop_assert!(problems.iter().all(|problem| problem.line > 0), "{problems:?}\n{text}");
                }
            }
        }
    }
}
