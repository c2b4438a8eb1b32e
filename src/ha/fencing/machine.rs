//! Which machine a fence device acts upon: comparing the UUID that its BMC tells with the one that the host's agent tells.

/// Whether two UUIDs name the same machine. `None` if one of them names none: unreadable, all zero or all ones.
///
/// The bytes of one UUID come in several orders: as RFC 4122 writes them; with the first three fields in little-endian order
/// (SMBIOS 2.6, what `/sys/class/dmi/id/product_uuid` shows on some machines and what many BMCs hold); all bytes reversed
/// (IPMI 2.0, 20.8). Firmware and tools disagree on which one to use, so every order is tried. That two machines whose
/// UUIDs differ are taken for one is as unlikely as that two random UUIDs are equal.
pub fn same_machine(one: &str, other: &str) -> Option<bool> {
    let (one, other) = (bytes(one)?, bytes(other)?);
    let reversed: [u8; 16] = std::array::from_fn(|index| one[15 - index]);
    let orders = [one, swapped(one), reversed, swapped(reversed), {
        let inner = swapped(one);
        std::array::from_fn(|index| inner[15 - index])
    }];
    Some(orders.contains(&other))
}

/// The system GUID in the output of `ipmitool mc guid`, in lower case.
pub fn guid_of_ipmitool(output: &str) -> Option<String> {
    let line = output.lines().find_map(|line| line.trim_start().strip_prefix("System GUID"))?;
    let guid = line.trim_start().strip_prefix(':')?.trim().to_ascii_lowercase();
    bytes(&guid).map(|_| guid)
}

/// The first three fields in the other order.
fn swapped(uuid: [u8; 16]) -> [u8; 16] {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    ORDER.map(|index| uuid[index])
}

fn bytes(text: &str) -> Option<[u8; 16]> {
    let digits = text.trim().trim_start_matches('{').trim_end_matches('}');
    let digits: Vec<u8> = digits.bytes().filter(|&byte| byte != b'-').collect();
    let digits: &[u8; 32] = digits.as_slice().try_into().ok()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    (bytes != [0; 16] && bytes != [0xff; 16]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn one_machine_in_any_byte_order() {
        for same in [
            UUID,
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            "{00112233445566778899aabbccddeeff}",
            "33221100-5544-7766-8899-aabbccddeeff",
            "ffeeddcc-bbaa-9988-7766-554433221100",
            "ccddeeff-aabb-8899-7766-554433221100",
            "ffeeddcc-bbaa-9988-6677-445500112233",
            " 00112233-4455-6677-8899-aabbccddeeff\n",
        ] {
            assert_eq!(same_machine(UUID, same), Some(true), "{same}");
            assert_eq!(same_machine(same, UUID), Some(true), "{same}");
        }
    }

    #[test]
    fn another_machine() {
        for other in ["00112233-4455-6677-8899-aabbccddeefe", "11002233-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(same_machine(UUID, other), Some(false), "{other}");
        }
    }

    #[test]
    fn no_machine() {
        for none in [
            "",
            "Not Settable",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00112233-4455-6677-8899-aabbccddeef",
            "+0112233-4455-6677-8899-aabbccddeeff",
            "é0112233-4455-6677-8899-aabbccddeef",
        ] {
            assert_eq!(same_machine(UUID, none), None, "{none}");
            assert_eq!(same_machine(none, UUID), None, "{none}");
        }
    }

    #[test]
    fn what_ipmitool_prints() {
        // ipmitool 1.8.18 and 1.8.19.
        for (output, guid) in [
            (
                "System GUID  : 31303043-534D-2500-90d8-7a1600000000\nTimestamp    : 03/09/1996 11:02:11\n",
                Some("31303043-534d-2500-90d8-7a1600000000"),
            ),
            (
                "System GUID   : 00112233-4455-6677-8899-aabbccddeeff\nGUID Encoding : SMBIOS\n",
                Some("00112233-4455-6677-8899-aabbccddeeff"),
            ),
            ("System GUID   : 00000000-0000-0000-0000-000000000000\n", None),
            ("Get GUID command failed", None),
            ("System GUID", None),
            ("", None),
        ] {
            assert_eq!(guid_of_ipmitool(output).as_deref(), guid, "{output}");
        }
    }
}
