/**
 * Redirects are recorded in the thread's RunContext; whoever runs the program reads the record if the verdict asks for
 * a redirect. The last one of a run counts, as in the kernel.
 */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, RunContext } from '../../memory/layout.ts';
import { Errno } from './shared.ts';

const Verdict = { xdpAborted: 0, xdpRedirect: 4, tcShot: 2, tcRedirect: 7 } as const;
/** Values of `RunContext.redirectKind`. */
const Kind = { none: 0, interface: 1, mapEntry: 2, peer: 3, neighbour: 4 } as const;
/** Bytes of struct bpf_redir_neigh: family, address. */
const NEXT_HOP = 20;
const BPF_F_INGRESS = 1;
/** The low bits of bpf_redirect_map's flags: the verdict where the map has no such entry. */
const ACTION_MASK = 3;
const BPF_F_BROADCAST = 8;
const BPF_F_EXCLUDE_INGRESS = 16;
const DEVMAP = 14;
const DEVMAP_HASH = 25;
const CLONES_KEPT = 8;
const CLONE_RECORD = 8;

function redirectRoutine(name: string, allowedFlags: number, verdict: number, refusal: number): Routine {
  return {
    name,
    text: `
  r3 = r2
  r3 &= -${allowedFlags + 1}
  if r3 != 0 goto refused
  r3 = run_context
  *(u32 *)(r3 + ${RunContext.redirectKind}) = ${Kind.interface}
  *(u32 *)(r3 + ${RunContext.redirectIfindex}) = r1
  *(u64 *)(r3 + ${RunContext.redirectFlags}) = r2
  r0 = ${verdict}
  exit
refused:
  r0 = ${refusal}
  exit
`,
  };
}

/** redirect_peer(ifindex, flags) */
const redirectPeer: Routine = {
  name: 'bpf_redirect_peer',
  text: `
  if r2 != 0 goto refused
  r3 = run_context
  *(u32 *)(r3 + ${RunContext.redirectKind}) = ${Kind.peer}
  *(u32 *)(r3 + ${RunContext.redirectIfindex}) = r1
  r0 = ${Verdict.tcRedirect}
  exit
refused:
  r0 = ${Verdict.tcShot}
  exit
`,
};

/**
 * redirect_neigh(ifindex, next hop, its size, flags). The next hop goes where other redirects have what this one lacks: its family
 * to the key, 0 for none; the halves of its address to the map and the flags.
 */
const redirectNeighbour: Routine = {
  name: 'bpf_redirect_neigh',
  text: `
  w3 = w3
  if r4 != 0 goto refused
  r5 = run_context
  r0 = 0
  if r3 == 0 goto record
  if r3 < ${NEXT_HOP} goto refused
  if r3 s> 0x7fffffff goto refused
  r0 = *(u32 *)(r2 + 4)
  *(u32 *)(r5 + ${RunContext.redirectMap}) = r0
  r0 = *(u32 *)(r2 + 8)
  *(u32 *)(r5 + ${RunContext.redirectMap + 4}) = r0
  r0 = *(u32 *)(r2 + 12)
  *(u32 *)(r5 + ${RunContext.redirectFlags}) = r0
  r0 = *(u32 *)(r2 + 16)
  *(u32 *)(r5 + ${RunContext.redirectFlags + 4}) = r0
  r0 = *(u32 *)(r2 + 0)
record:
  *(u32 *)(r5 + ${RunContext.redirectKey}) = r0
  *(u32 *)(r5 + ${RunContext.redirectKind}) = ${Kind.neighbour}
  *(u32 *)(r5 + ${RunContext.redirectIfindex}) = r1
  r0 = ${Verdict.tcRedirect}
  exit
refused:
  r0 = ${Verdict.tcShot}
  exit
`,
};

/** redirect_map(map, key, flags). An entry that is all zero in its first word is one that nobody filled. */
const redirectMap: Routine = {
  name: 'bpf_redirect_map',
  text: `
  r6 = r1
  w7 = w2
  r8 = r3
  r9 = run_context
  r4 = ${~ACTION_MASK}
  r5 = *(u32 *)(r6 + ${MapHeader.type})
  if r5 == ${DEVMAP} goto many
  if r5 != ${DEVMAP_HASH} goto one
many:
  r4 = ${~(ACTION_MASK | BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS)}
one:
  r4 &= r8
  if r4 != 0 goto refused
  r4 = r8
  r4 &= ${BPF_F_BROADCAST}
  if r4 != 0 goto record                          ; to every entry: no key
  *(u32 *)(r10 - 8) = r7
  r2 = r10
  r2 += -8
  call routine bpf_map_lookup_elem
  if r0 == 0 goto missing
  r0 = *(u32 *)(r0 + 0)
  if r0 == 0 goto missing
  r8 = 0
record:
  *(u32 *)(r9 + ${RunContext.redirectKind}) = ${Kind.mapEntry}
  *(u64 *)(r9 + ${RunContext.redirectMap}) = r6
  *(u32 *)(r9 + ${RunContext.redirectKey}) = r7
  *(u64 *)(r9 + ${RunContext.redirectFlags}) = r8
  r0 = ${Verdict.xdpRedirect}
  exit
missing:
  *(u32 *)(r9 + ${RunContext.redirectKind}) = ${Kind.none}
  r0 = r8
  r0 &= ${ACTION_MASK}
  exit
refused:
  r0 = ${Verdict.xdpAborted}
  exit
`,
};

/** clone_redirect(skb, ifindex, flags): counts, and keeps the last eight targets in a ring. */
const cloneRedirect: Routine = {
  name: 'bpf_clone_redirect',
  text: `
  w2 = w2
  r4 = r3
  r4 &= -${BPF_F_INGRESS + 1}
  if r4 != 0 goto invalid
  if r2 == 0 goto invalid                         ; no interface has the number 0
  r4 = run_context
  r5 = *(u32 *)(r4 + ${RunContext.cloneCount})
  r0 = r5
  r0 += 1
  *(u32 *)(r4 + ${RunContext.cloneCount}) = r0
  r5 &= ${CLONES_KEPT - 1}
  r5 *= ${CLONE_RECORD}
  r5 += r4
  *(u32 *)(r5 + ${RunContext.cloneRecords}) = r2
  *(u32 *)(r5 + ${RunContext.cloneRecords + 4}) = r3
  r0 = 0
  exit
invalid:
  r0 = ${Errno.EINVAL}
  exit
`,
};

export const REDIRECT_ROUTINES: readonly Routine[] = [
  redirectRoutine('bpf_redirect', BPF_F_INGRESS, Verdict.tcRedirect, Verdict.tcShot),
  redirectRoutine('bpf_xdp_redirect', 0, Verdict.xdpRedirect, Verdict.xdpAborted),
  redirectPeer,
  redirectNeighbour,
  redirectMap,
  cloneRedirect,
];
