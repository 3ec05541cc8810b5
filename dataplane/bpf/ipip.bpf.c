/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * IP in IP (RFC 2003) for kernels without the ipip module, by two tc programs.
 *
 *   routing table -> tunl0 =veth= tunl0-x -> [encapsulate] -> underlay
 *   underlay -> [decapsulate] -> tunl0-x =veth= tunl0 -> routing table
 *
 * Both hang at tc ingress. What the node sends through tunl0 passes tunl0's packet tap
 * and comes in at its veth peer; what comes from another node goes out through the peer
 * and so comes in at tunl0. So tcpdump and the counters of tunl0 see the inner packets
 * of both directions, those of the underlay the outer ones, as with the kernel's ipip
 * device.
 *
 * There is no map of routes: the next hop of every packet is asked from the kernel's
 * own routing table, which stays the only truth. What the programs cannot ask from the
 * kernel stands in two maps, `config` and `peers`.
 *
 * Where this file says "as ipip", the model is net/ipv4/ip_tunnel.c and ipip.c of Linux.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include "helpers.h"

/* bpf_fib_lookup and bpf_redirect_neigh are open to GPL-compatible programs only. */
char program_license[] SECTION("license") = "Dual MIT/GPL";

#define FAMILY_IPV4 2 /* AF_INET; sys/socket.h is the C library's */
#define LOOPBACK_IFINDEX 1 /* lo is the first device of every network namespace */
#define OUTER_LEN ((int)sizeof(struct iphdr))

#define FLAG_DF NET16(0x4000)
#define FLAG_MF_AND_OFFSET NET16(0x3fff)

#define ECN_MASK 3
#define ECN_NOT_ECT 0
#define ECN_ECT_1 1
#define ECN_ECT_0 2
#define ECN_CE 3

/* Returned where tc should go on as if this program were not there: another program
 * further down the chain, somebody else's, then still sees the packet. */
#define NOT_OURS TC_ACT_UNSPEC

/* skb_adjust_room between Ethernet and IP header. FIXED_GSO: the size of a segment
 * counts from the inner header on, so neither header changes it; without the flag the
 * kernel refuses UDP super-packets. */
#define GROW_FLAGS BPF_F_ADJ_ROOM_FIXED_GSO
#define SHRINK_FLAGS BPF_F_ADJ_ROOM_FIXED_GSO
/* Already encapsulated: the packet carries the mark of an earlier encapsulation. */
#define ERROR_ALREADY (-114)

/* Written by the agent before the programs are attached; the layout is known to
 * program.rs. */
struct config {
	__u32 tunnel_ifindex; /* tunl0 */
	__u32 peer_ifindex;   /* tunl0-x */
	__be32 node_address;
	__u8 tunnel_mac[ETH_ALEN];
	__u8 unused[2];
};

struct map_definition config SECTION("maps") = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(struct config),
	.max_entries = 1,
};

/* The layout that the kernel asks of a longest-prefix-match key. */
struct prefix {
	__u32 length;
	__be32 address;
};

/* Who tunnel packets are accepted from and sent to: the nodes, each as prefix of 32
 * bits, and the prefixes of external senders. The outer packet never reaches netfilter's
 * INPUT and OUTPUT, where Calico keeps this list, so it is kept here. */
struct map_definition peers SECTION("maps") = {
	.type = BPF_MAP_TYPE_LPM_TRIE,
	.key_size = sizeof(struct prefix),
	.value_size = sizeof(__u8),
	.max_entries = 8192,
	/* A trie cannot be allocated in advance. */
	.flags = BPF_F_NO_PREALLOC,
};

/* Why a packet was not taken; the key of `drops`. Order and number are known to
 * program.rs. */
enum reason {
	/* encapsulate */
	NOT_IPV4,	   /* something else than IPv4 was sent into the tunnel */
	TTL_EXPIRED,	   /* ttl 0, would loop for ever if ttl is copied back and forth */
	NO_TUNNEL_ROUTE,   /* no route with a gateway, through tunl0 or to a peer */
	NO_UNDERLAY_ROUTE, /* no route to the gateway, or only through tunl0 itself */
	TOO_BIG,	   /* longer than the underlay's MTU with the outer header */
	UNKNOWN_RECEIVER,  /* a route through tunl0 to an address that is no peer */
	NO_ROOM,	   /* the kernel refused to make or remove the header */
	/* decapsulate */
	UNKNOWN_SENDER,	   /* protocol 4 from an address that is no peer */
	MALFORMED,	   /* lengths, version or checksum wrong */
	ECN_INVALID,	   /* congestion marked on a transport without ECN */
	/* decapsulate; counted, but left to the stack */
	FRAGMENT,	   /* fragment of an outer packet: there is no reassembly here */
	OUTER_OPTIONS,	   /* outer header with IP options */
	/* both */
	NOT_CONFIGURED,	   /* the agent attached without writing `config`: a bug */
	REASONS
};

struct map_definition drops SECTION("maps") = {
	.type = BPF_MAP_TYPE_PERCPU_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = REASONS,
};

/* A function of its own in the object: a dozen copies would be half of the program. */
static __attribute__((noinline)) int count(enum reason reason, int verdict)
{
	__u32 key = reason;
	__u64 *counter = map_lookup_elem(&drops, &key);

	/* Per CPU, and tc ingress runs in the receive softirq only: no atomics. */
	if (counter)
		*counter += 1;
	return verdict;
}

INLINE int drop(enum reason reason)
{
	return count(reason, TC_ACT_SHOT);
}

INLINE const struct config *node_config(void)
{
	__u32 key = 0;
	const struct config *found = map_lookup_elem(&config, &key);

	/* An array's entry exists, all zero, before anybody writes it. */
	return found && found->tunnel_ifindex ? found : 0;
}

INLINE int is_peer(__be32 address)
{
	struct prefix key = { .length = 32, .address = address };

	return map_lookup_elem(&peers, &key) != 0;
}

/*
 * The first `len` bytes of the frame as linear memory, or null if it is shorter.
 * Invalidates every pointer into the packet.
 */
INLINE void *frame(struct __sk_buff *skb, __u32 len)
{
	if ((void *)(long)skb->data + len > (void *)(long)skb->data_end &&
	    skb_pull_data(skb, len))
		return 0;
	if ((void *)(long)skb->data + len > (void *)(long)skb->data_end)
		return 0;
	return (void *)(long)skb->data;
}

INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The Internet checksum over a header without options; 0 over a valid one. */
INLINE __u16 header_checksum(const struct iphdr *header)
{
	return fold(csum_diff(0, 0, (const __be32 *)header, sizeof(*header), 0));
}

/*
 * Both answers carry interface and gateway. A neighbour entry is not needed: tunl0 has
 * none by nature, and the underlay's is resolved by redirect_neigh. (The flag that
 * skips the neighbour look-up is younger than everything else here, and a kernel
 * without it would refuse at run time what it took at load time.)
 */
INLINE int routed(long answer)
{
	return answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH;
}

/* A route without a gateway leaves the destination as it was. */
INLINE int has_gateway(long answer, const struct bpf_fib_lookup *route, __be32 destination)
{
	return routed(answer) && route->family == FAMILY_IPV4 && route->ipv4_dst != destination;
}

/* Room for the outer header between the Ethernet and the inner header. */
INLINE long make_room(struct __sk_buff *skb)
{
	long error = skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC,
				     GROW_FLAGS | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);

	/* A packet that decapsulate took out of another node's tunnel, or that the pod's
	 * own tunnel marked, keeps its mark and is refused a second one. The mark it has
	 * already tells the kernel how to segment it. */
	if (error == ERROR_ALREADY)
		error = skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, GROW_FLAGS);
	return error;
}

/* tc ingress of tunl0-x: what the node's routing table sent through tunl0. */
SECTION("classifier")
int encapsulate(struct __sk_buff *skb)
{
	const struct config *config = node_config();
	const struct iphdr *inner;
	struct ethhdr *eth;
	struct iphdr *outer;

	if (!config)
		return drop(NOT_CONFIGURED);
	/* Everything that goes into the tunnel is taken or dropped here: the stack behind
	 * tunl0-x must not see the packet a second time. */
	eth = frame(skb, ETH_HLEN + sizeof(*inner));
	if (!eth || skb->protocol != NET16(ETH_P_IP))
		return drop(NOT_IPV4);
	inner = (void *)(eth + 1);
	if (inner->version != 4)
		return drop(NOT_IPV4);
	if (!inner->ttl)
		return drop(TTL_EXPIRED);

	struct bpf_fib_lookup tunnel_route = {
		.family = FAMILY_IPV4,
		.l4_protocol = inner->protocol,
		.tos = inner->tos,
		.ipv4_src = inner->saddr,
		.ipv4_dst = inner->daddr,
		.ifindex = config->tunnel_ifindex,
	};
	/* OUTPUT: the route by which the packet left through tunl0. */
	long answer = fib_lookup(skb, &tunnel_route, sizeof(tunnel_route), BPF_FIB_LOOKUP_OUTPUT);

	if (!has_gateway(answer, &tunnel_route, inner->daddr)) {
		/* The packet was on its way through tunl0 while its route moved to the
		 * underlay: the pool's mode has changed. ipip would know the gateway by the
		 * packet's route entry; here the new route tells it, the same node. Its
		 * tunnel takes packets in every mode. As input from lo, see below. */
		tunnel_route.family = FAMILY_IPV4;
		tunnel_route.l4_protocol = inner->protocol;
		tunnel_route.tot_len = 0;
		tunnel_route.tos = inner->tos;
		tunnel_route.ipv4_src = inner->saddr;
		tunnel_route.ipv4_dst = inner->daddr;
		tunnel_route.ifindex = LOOPBACK_IFINDEX;
		answer = fib_lookup(skb, &tunnel_route, sizeof(tunnel_route), 0);
		if (!has_gateway(answer, &tunnel_route, inner->daddr) ||
		    !is_peer(tunnel_route.ipv4_dst))
			return drop(NO_TUNNEL_ROUTE);
	}

	if (!is_peer(tunnel_route.ipv4_dst))
		return drop(UNKNOWN_RECEIVER);

	/* 0 stands for a super-packet beyond 64 KB (BIG TCP), whose real length is the
	 * buffer's. Super-packets are cut to segments later, on the way out. */
	__u32 inner_len = inner->tot_len ? NET16(inner->tot_len) : skb->len - ETH_HLEN;
	__u32 outer_len = inner_len + OUTER_LEN;
	__u8 ecn = inner->tos & ECN_MASK;
	__u8 ttl = inner->ttl;
	__be16 df = inner->frag_off & FLAG_DF;

	struct bpf_fib_lookup underlay_route = {
		.family = FAMILY_IPV4,
		.l4_protocol = IPPROTO_IPIP,
		.tot_len = skb->gso_size ? 0 : outer_len,
		.ipv4_src = config->node_address,
		.ipv4_dst = tunnel_route.ipv4_dst,
		/* As input from lo: what the kernel, too, names as origin of its own
		 * packets, and the only way to ask without naming the way out. */
		.ifindex = LOOPBACK_IFINDEX,
	};
	answer = fib_lookup(skb, &underlay_route, sizeof(underlay_route), 0);
	if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return drop(TOO_BIG);
	if (!routed(answer) || underlay_route.ifindex == config->tunnel_ifindex)
		return drop(NO_UNDERLAY_ROUTE);

	struct iphdr header = {
		.version = 4,
		.ihl = sizeof(header) / 4,
		/* TOS 0 with ECN carried over, as ipip with tos 0: "congestion
		 * experienced" starts anew as "capable" (RFC 3168, 9.1.1). */
		.tos = ecn == ECN_CE ? ECN_ECT_0 : ecn,
		.tot_len = outer_len > 0xffff ? 0 : NET16(outer_len),
		/* RFC 6864: with DF the id means nothing; without, it must not repeat
		 * while fragments of an earlier packet may be under way. */
		.id = df ? 0 : (__be16)get_prandom_u32(),
		.frag_off = df,
		.ttl = ttl,
		.protocol = IPPROTO_IPIP,
		.saddr = config->node_address,
		.daddr = tunnel_route.ipv4_dst,
	};
	header.check = header_checksum(&header);

	if (make_room(skb))
		return drop(NO_ROOM);
	eth = frame(skb, ETH_HLEN + sizeof(*outer));
	if (!eth)
		return drop(NO_ROOM);
	outer = (void *)(eth + 1);
	*outer = header;

	if (underlay_route.family != FAMILY_IPV4)
		/* An IPv4 route by an IPv6 gateway (RFC 5549): let the kernel look it up. */
		return redirect_neigh(underlay_route.ifindex, 0, 0, 0);

	struct bpf_redir_neigh next_hop = {
		.nh_family = FAMILY_IPV4,
		.ipv4_nh = underlay_route.ipv4_dst,
	};
	return redirect_neigh(underlay_route.ifindex, &next_hop, sizeof(next_hop), 0);
}

/* Replaces the inner header's ECN field, its checksum by RFC 1624. */
INLINE void set_ecn(struct iphdr *inner, __u8 ecn)
{
	/* TOS is the second byte in memory: the high one of a little-endian word. */
	__u16 old = inner->tos << 8;

	inner->tos = (inner->tos & ~ECN_MASK) | ecn;
	inner->check = fold((__u16)~inner->check + (__u16)~old + (__u16)(inner->tos << 8));
}

/* Carries the outer ECN field inward (RFC 6040, as ipip). Non-zero: drop the packet. */
INLINE int decapsulate_ecn(__u8 outer_tos, struct iphdr *inner)
{
	__u8 outer = outer_tos & ECN_MASK;
	__u8 ecn = inner->tos & ECN_MASK;

	if (ecn == ECN_NOT_ECT)
		return outer == ECN_CE;
	if (outer == ECN_CE)
		set_ecn(inner, ECN_CE);
	else if (outer == ECN_ECT_1 && ecn == ECN_ECT_0)
		set_ecn(inner, ECN_ECT_1);
	return 0;
}

/* tc ingress of the underlay interface. */
SECTION("classifier")
int decapsulate(struct __sk_buff *skb)
{
	const struct config *config;
	struct ethhdr *eth;
	struct iphdr *outer, *inner;

	/* Not for this host: flooded by a bridge, or seen only because of promiscuity. */
	if (skb->protocol != NET16(ETH_P_IP) || skb->pkt_type != PACKET_HOST)
		return NOT_OURS;
	eth = frame(skb, ETH_HLEN + sizeof(*outer));
	if (!eth)
		return NOT_OURS;
	outer = (void *)(eth + 1);
	if (outer->version != 4 || outer->protocol != IPPROTO_IPIP)
		return NOT_OURS;
	config = node_config();
	if (!config)
		return drop(NOT_CONFIGURED);
	if (outer->daddr != config->node_address)
		return NOT_OURS;

	if (!is_peer(outer->saddr))
		return drop(UNKNOWN_SENDER);
	if (outer->frag_off & FLAG_MF_AND_OFFSET)
		return count(FRAGMENT, NOT_OURS);
	if (outer->ihl > sizeof(*outer) / 4)
		return count(OUTER_OPTIONS, NOT_OURS);

	/* IPv4 input will not see the outer header again, so its checks are made here. */
	eth = frame(skb, ETH_HLEN + sizeof(*outer) + sizeof(*inner));
	if (!eth)
		return drop(MALFORMED);
	outer = (void *)(eth + 1);
	inner = outer + 1;
	if (outer->ihl != sizeof(*outer) / 4 || header_checksum(outer))
		return drop(MALFORMED);
	if (inner->version != 4 || inner->ihl < sizeof(*inner) / 4)
		return drop(MALFORMED);

	__u32 outer_len = NET16(outer->tot_len);
	__u32 inner_len = NET16(inner->tot_len);

	/* 0: a super-packet beyond 64 KB, see encapsulate. */
	if (!outer_len && skb->gso_size)
		outer_len = skb->len - ETH_HLEN;
	if (!inner_len && skb->gso_size)
		inner_len = outer_len - OUTER_LEN;
	if (outer_len > skb->len - ETH_HLEN || inner_len + OUTER_LEN > outer_len)
		return drop(MALFORMED);

	if (decapsulate_ecn(outer->tos, inner))
		return drop(ECN_INVALID);
	if (skb_adjust_room(skb, -OUTER_LEN, BPF_ADJ_ROOM_MAC, SHRINK_FLAGS))
		return drop(NO_ROOM);

	eth = frame(skb, ETH_HLEN);
	if (!eth)
		return drop(NO_ROOM);
	/* Else tunl0 takes the packet for somebody else's. */
	__builtin_memcpy(eth->h_dest, config->tunnel_mac, ETH_ALEN);
	/* Out through the peer instead of straight into tunl0 (BPF_F_INGRESS), which would
	 * leave tunl0's receive counters at zero; the way is the same length. */
	return redirect(config->peer_ifindex, 0);
}
