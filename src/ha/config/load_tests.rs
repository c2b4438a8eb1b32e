use super::*;
use crate::ha::config::*;

const HALO: &str = "\
hosts:
- hostname: oss1:8000
  fence_agent: powerman
  fence_parameters: null
- hostname: oss2:8001
  fence_agent: redfish
  fence_parameters: {username: admin, password: hidden}
resources:
- name: pool1
  kind: heartbeat/ZFS
  parameters: {pool: pool1, importforce: true}
  dependents: [ost1, ost0]
- name: ost0
  kind: lustre/Lustre
  parameters: {target: pool1/ost0, mountpoint: /mnt/ost0, index: 7}
  dependents: []
- name: ost1
  kind: lustre/Lustre
  parameters: {target: pool1/ost1, mountpoint: /mnt/ost1}
  dependents: []
resource_groups:
- root: pool1
  home_host: oss1:8000
  failover_hosts: [oss2]
";

fn good(text: &str) -> Loaded {
    load(text, "ha.yaml").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn halos_file_as_it_is() {
    let Loaded { config, warnings, secrets, .. } = good(HALO);
    assert_eq!(warnings, []);
    assert_eq!(secrets, [(7, "hosts[1].fence_parameters.password".to_owned())]);
    assert_eq!(config.settings, Settings::default());
    let device = |host: &str| config.hosts[host].fencing[0].devices[0].clone();
    let plain = |text: &str| Parameter::Plain(text.to_owned());
    let powerman = device("oss1");
    assert_eq!(
        (powerman.agent.as_str(), powerman.name.as_str()),
        ("fence_powerman", "fence_powerman(localhost, oss1)")
    );
    let expected = [("ipaddr".to_owned(), plain("localhost")), ("plug".to_owned(), plain("oss1"))];
    assert_eq!(powerman.parameters, expected.into());
    let redfish = device("oss2");
    assert_eq!(redfish.agent, "fence_redfish");
    assert_eq!(redfish.parameters["ipaddr"], plain("oss2"));
    assert_eq!(redfish.parameters["ssl-insecure"], plain("true"));
    assert_eq!(redfish.parameters["password"], Parameter::Secret(Secret("hidden".into())));
    assert!(!format!("{config:?}").contains("hidden"));
    assert_eq!((config.hosts["oss2"].address.as_str(), config.hosts["oss2"].port), ("oss2", 8001));
    let group = &config.groups["pool1"];
    assert_eq!(group.members, ["pool1", "ost1", "ost0"].map(Into::into));
    assert_eq!((group.home.as_str(), group.failover[0].as_str()), ("oss1", "oss2"));
    assert_eq!(config.resources["ost0"].spec.parameters["index"], "7");
    assert_eq!(config.resources["pool1"].spec.parameters["importforce"], "true");
    assert_eq!(config.resources["ost0"].parent, Some("pool1".into()));
}
