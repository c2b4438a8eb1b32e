use super::*;
use crate::client::ha::discover::parse::{ldev_conf, output};

fn found(host: &str, text: &str) -> (String, Found) {
    (host.to_owned(), output(&format!("{text}=====end\n")).unwrap())
}

fn mounted(device: &str, label: &str) -> String {
    format!("=====mount\n{device} on /mnt/{label} type lustre (ro,svname={label},osd=x)\n")
}

/// `root home failover: members`
fn short(group: &Group) -> String {
    let members: Vec<&str> = group.resources.iter().map(|resource| resource.name.as_str()).collect();
    format!("{} {} [{}]: {}", group.root, group.home, group.failover.join(" "), members.join(" "))
}

fn all(found: &[(String, Found)], ldev: &str) -> (Vec<String>, Vec<Group>, Vec<String>) {
    let (lines, _) = ldev_conf(ldev, "F");
    let (groups, warnings) = groups(found, &lines, "/mnt/lustre");
    (groups.iter().map(short).collect(), groups, warnings)
}

#[test]
fn targets_are_under_their_pools() {
    let oss1 = format!(
        "{}a/ost1 on /mnt/ost1 type lustre (ro,svname=l-OST0001)\n=====zpool\na\nrpool\n",
        mounted("a/ost0", "l-OST0000")
    );
    let (short, groups, warnings) = all(&[found("oss1", &oss1)], "");
    assert_eq!(short, ["a oss1 []: a l-OST0000 l-OST0001"]);
    assert_eq!(groups[0].resources[0].parameters, [("pool", "a".to_owned())]);
    assert_eq!(
        groups[0].resources[1].parameters,
        [("target", "a/ost0".to_owned()), ("mountpoint", "/mnt/l-OST0000".to_owned())]
    );
    assert_eq!(groups[0].notes, [""; 0]);
    assert_eq!(warnings, ["pool rpool on oss1 holds no Lustre target; it is left out"]);
}

#[test]
fn ldiskfs_targets_are_groups_of_their_own_and_shared_disks_tell_partners() {
    let oss1 = format!(
        "{}=====blkid\n/dev/sda: LABEL=\"l-OST0000\" TYPE=\"ext4\"\n/dev/sdb: LABEL=\"l-OST0001\" TYPE=\"ext4\"\n",
        mounted("/dev/mapper/ost0", "l-OST0000")
    );
    let oss2 = format!(
        "{}=====blkid\n/dev/sdx: LABEL=\"l-OST0000\" TYPE=\"ext4\"\n/dev/sdy: LABEL=\"l-OST0001\" TYPE=\"ext4\"\n",
        mounted("/dev/mapper/ost1", "l-OST0001")
    );
    let (short, groups, _) = all(&[found("oss1", &oss1), found("oss2", &oss2)], "");
    assert_eq!(short, ["l-OST0000 oss1 [oss2]: l-OST0000", "l-OST0001 oss2 [oss1]: l-OST0001"]);
    assert_eq!(groups[1].resources[0].parameters[0], ("target", "/dev/mapper/ost1".to_owned()));
}

#[test]
fn ldev_conf_says_where_things_belong() {
    let oss2 = format!("{}=====zpool\na\n", mounted("a/ost0", "l-OST0000"));
    let (short, groups, _) = all(&[found("oss2", &oss2)], "oss1 oss2 l-OST0000 zfs:a/ost0\n");
    assert_eq!(short, ["a oss1 [oss2]: a l-OST0000"]);
    assert_eq!(groups[0].notes, ["l-OST0000 is on oss2 now"]);
    let (short, groups, _) =
        all(&[], "mds1 mds2 MGS /dev/mgs\nmds1 mds2 l-MDT0000 /dev/mdt\noss1 - l-OST0000 zfs:a/o\n");
    assert_eq!(short, ["MGS mds1 [mds2]: MGS", "l-MDT0000 mds1 [mds2]: l-MDT0000", "a oss1 []: a l-OST0000"]);
    assert_eq!(groups[0].notes, ["the mount point of MGS is not known: /mnt/lustre/MGS is a guess"]);
}

#[test]
fn a_target_on_two_hosts_is_shouted_about() {
    let text = mounted("/dev/a", "l-OST0000");
    let (_, groups, _) = all(&[found("oss1", &text), found("oss2", &text)], "");
    assert!(
        groups[0].notes[0].starts_with("DANGER: l-OST0000 is mounted on several hosts at once: oss1, oss2.")
    );
}

#[test]
fn names_stay_unique() {
    let one = format!("{}=====zpool\ntank\n", mounted("tank/o", "l-OST0000"));
    let two = format!("{}=====zpool\ntank\n", mounted("tank/o", "l-OST0001"));
    let (short, _, _) = all(&[found("oss1", &one), found("oss2", &two)], "");
    assert_eq!(short, ["tank-oss1 oss1 []: tank-oss1 l-OST0000", "tank-oss2 oss2 []: tank-oss2 l-OST0001"]);
    let (short, _, _) = all(&[], "a - MGS zfs:p/mgs\nb - MGS zfs:q/mgs\n");
    assert_eq!(short, ["p a []: p MGS-p-mgs", "q b []: q MGS-q-mgs"]);
}
