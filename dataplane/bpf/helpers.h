/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The little that a tc program needs beside the kernel's own uapi headers: helper
 * functions, map definitions, byte order. Written out here so that the object can be
 * rebuilt with clang and linux-libc-dev alone, without libbpf's headers.
 */
#ifndef PODLAB_HELPERS_H
#define PODLAB_HELPERS_H

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* The object is always built for bpfel, so network order is always the other one. */
#define NET16(x) ((__be16)__builtin_bswap16(x))

/*
 * Map definitions in the "maps" section. Loaders that use libbpf no longer take this
 * form, but it needs no BTF: BTF would be half of the object and would have to be
 * checked by every kernel that loads it.
 */
struct map_definition {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 flags;
};

/*
 * A helper is called by its number; the compiler turns a call through a constant
 * pointer into that. Signatures: bpf-helpers(7).
 */
#define HELPER(id) ((void *)(BPF_FUNC_##id))

static void *(*const map_lookup_elem)(const void *map, const void *key) =
	HELPER(map_lookup_elem);
static __u32 (*const get_prandom_u32)(void) = HELPER(get_prandom_u32);
static long (*const redirect)(__u32 ifindex, __u64 flags) = HELPER(redirect);
static __s64 (*const csum_diff)(const __be32 *from, __u32 from_size, const __be32 *to,
				__u32 to_size, __u32 seed) = HELPER(csum_diff);
static long (*const skb_pull_data)(struct __sk_buff *skb, __u32 len) = HELPER(skb_pull_data);
static long (*const skb_adjust_room)(struct __sk_buff *skb, __s32 len_diff, __u32 mode,
				     __u64 flags) = HELPER(skb_adjust_room);
static long (*const fib_lookup)(void *ctx, struct bpf_fib_lookup *params, __s32 size,
				__u32 flags) = HELPER(fib_lookup);
static long (*const redirect_neigh)(__u32 ifindex, const struct bpf_redir_neigh *params,
				    __s32 size, __u64 flags) = HELPER(redirect_neigh);

#endif
