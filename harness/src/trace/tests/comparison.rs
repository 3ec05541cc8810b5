use super::*;
use crate::trace::assemble::in_order;
use crate::trace::compare::Problem;

/// Where it went wrong, and how.
fn found(journey: &Journey) -> (String, Problem) {
    let finding = journey.finding().expect("something is wrong");
    let before = finding.stretch.before.as_ref().map(short);
    (before.unwrap_or_default(), finding.problem)
}

/// If this fails, every healthy network is called broken.
#[test]
fn nothing_is_found_on_a_healthy_path() {
    let journey = Journey::healthy();
    for (leg, stations) in [
        (Leg::There, &journey.expected.there),
        (Leg::Back, &journey.expected.back),
    ] {
        let comparison = compare(leg, stations, &journey.hops, &mac);
        assert!(comparison.arrived);
        assert_eq!(comparison.finding, None);
    }
}

#[test]
fn the_first_station_without_the_packet_is_named_with_the_one_before() {
    let mut journey = Journey::healthy();
    journey.lost_before("n1/eth0");
    let finding = journey.finding().expect("it is lost");
    assert_eq!(finding.problem, Problem::Missing);
    assert_eq!(finding.stretch.to_string(), "between n1/tunl0 and n1/eth0");
    let comparison = compare(Leg::There, &journey.expected.there, &journey.hops, &mac);
    assert!(!comparison.arrived);
}

#[test]
fn a_frame_for_somebody_else_counts_as_not_seen() {
    let mut journey = Journey::healthy();
    let station = journey.station("n2/eth0");
    journey.hops[station].addressed = false;
    assert_eq!(found(&journey), ("n2/eth0".into(), Problem::Missing));
}

/// Offsets in an IPv4 header.
const TTL: usize = 8;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;
const OUTER: usize = 20;

/// Sets bytes of the IPv4 header that begins at `at`, and its checksum.
fn set(bytes: &mut [u8], at: usize, offset: usize, value: &[u8]) {
    bytes[at + offset..at + offset + value.len()].copy_from_slice(value);
    let (header, _) = etherparse::Ipv4Header::from_slice(&bytes[at..]).unwrap();
    let sum = header.calc_header_checksum();
    bytes[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn what_is_wrong_with_a_header_is_told_apart() {
    let stranger = Ipv4Addr::new(10, 99, 0, 1);
    type Change = fn(&mut Vec<u8>);
    let plain: Change = |bytes| drop(bytes.drain(ETHERNET..ETHERNET + OUTER));
    let twice: Change = |bytes| {
        let packet = wrap(bytes.split_off(ETHERNET), N1, N2);
        bytes.extend(packet);
    };
    let source: Change = |bytes| set(bytes, ETHERNET, SOURCE, &[10, 99, 0, 1]);
    let destination: Change = |bytes| set(bytes, ETHERNET, DESTINATION, &[10, 99, 0, 1]);
    let ttl: Change = |bytes| set(bytes, ETHERNET + OUTER, TTL, &[62]);
    let header: Change = |bytes| bytes[ETHERNET + 10] ^= 1;
    let message: Change = |bytes| bytes[ETHERNET + 2 * OUTER + 2] ^= 1;
    let frame: Change = |bytes| bytes[0] = 0x0a;
    let outer = |from, to| Problem::Outer {
        expected: (N1, N2),
        found: (from, to),
    };
    let cases = [
        (plain, Problem::Plain),
        (twice, Problem::Depth(2)),
        (source, outer(stranger, N2)),
        (destination, outer(N1, stranger)),
        (
            ttl,
            Problem::Ttl {
                expected: 63,
                found: 62,
            },
        ),
        (header, Problem::Checksum { header: "IPv4" }),
        (message, Problem::Checksum { header: "ICMP" }),
    ];
    for (change, problem) in cases {
        let mut journey = Journey::healthy();
        journey.put("n1/eth0", change);
        assert_eq!(found(&journey), ("n1/eth0".into(), problem));
    }
    let mut journey = Journey::healthy();
    journey.put("n1/eth0", frame);
    let (place, problem) = found(&journey);
    assert_eq!(place, "n1/eth0");
    let Problem::Frame { expected, .. } = problem else {
        panic!("{problem:?}");
    };
    assert_eq!(expected.to_string(), "n2/eth0");
}

#[test]
fn a_packet_that_comes_twice_or_to_others_is_noticed() {
    let mut journey = Journey::healthy();
    let again = journey.hops[journey.station("n2/eth0")].clone();
    journey.hops.push(again);
    assert_eq!(found(&journey), ("n2/eth0".into(), Problem::Repeated(2)));

    let mut journey = Journey::healthy();
    let other = Point::new("n3", "eth0");
    let mut strayed = stray(&journey, "n2/eth0", other.clone(), Direction::Incoming);
    strayed.addressed = false;
    journey.hops.push(strayed.clone());
    assert_eq!(journey.finding(), None, "flooded, and dropped there");
    strayed.addressed = true;
    journey.hops.push(strayed);
    assert_eq!(found(&journey), ("n3/eth0".into(), Problem::Detour(other)));
}

#[test]
fn hops_of_one_time_stamp_are_in_the_order_of_the_way_and_others_in_that_of_time() {
    let Journey {
        mut hops, expected, ..
    } = Journey::healthy();
    let way: Vec<String> = hops.iter().map(|hop| hop.point.to_string()).collect();
    let last = hops.len() - 1;
    let (first, end) = (hops[0].time, hops[last].time);
    // All but the last have one stamp.
    hops[..last].iter_mut().for_each(|hop| hop.time = first);
    hops.reverse();
    in_order(&mut hops, &expected);
    let order: Vec<String> = hops.iter().map(|hop| hop.point.to_string()).collect();
    assert_eq!(order, way);
    // What came later is later, wherever it belongs.
    hops[0].time = end + std::time::Duration::from_micros(1);
    in_order(&mut hops, &expected);
    assert_eq!(hops[last].point.to_string(), way[0]);
}
