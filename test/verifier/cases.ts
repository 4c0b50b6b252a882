/**
 * The small programs of `cases.txt` and of the files beside it, near the edge of what a verifier accepts. Their verdicts are the running kernel's, kept in
 * `verdicts.json`.
 */
import { readFileSync } from 'node:fs';

const FILES = [
  'cases.txt',
  'references.txt',
  'locks.txt',
  'sockets.txt',
  'iterators.txt',
  'dynptrs.txt',
  'links.txt',
  'endless.txt',
  'casts.txt',
  'early-returns.txt',
];

const TUPLE = '*(u64 *)(r10 - 8) = 0\n*(u64 *)(r10 - 16) = 0\nr2 = r10\nr2 += -16\nr3 = 12\nr4 = -1\nr5 = 0\n';
const MACROS: Readonly<Record<string, string>> = {
  KEY8: '*(u64 *)(r10 - 8) = 0\nr2 = r10\nr2 += -8',
  KEY4: '*(u32 *)(r10 - 12) = 0\nr2 = r10\nr2 += -12',
  PACKET: 'r2 = *(u32 *)(r1 + 0)\nr3 = *(u32 *)(r1 + 4)\nr4 = r2\nr4 += 14',
  LOCKED:
    '*(u64 *)(r10 - 8) = 0\nr2 = r10\nr2 += -8\nr1 = map[locked] ll\ncall bpf_map_lookup_elem\nif r0 == 0 goto out\nr6 = r0',
  LOCK: 'r1 = r6\nr1 += 4\ncall bpf_spin_lock',
  UNLOCK: 'r1 = r6\nr1 += 4\ncall bpf_spin_unlock',
  LOOKUP: `${TUPLE}call bpf_sk_lookup_tcp`,
  COMMON: `${TUPLE}call bpf_skc_lookup_tcp`,
  SK: 'r0 = *(u64 *)(r1 + 168)\nif r0 == 0 goto out',
  XDP: 'r9 = r1\nr2 = 0\nr3 = r10\nr3 += -16\ncall kfunc[0 bpf_dynptr_from_xdp]',
  SKBPTR: 'r9 = r1\nr2 = 0\nr3 = r10\nr3 += -16\ncall kfunc[0 bpf_dynptr_from_skb]',
  VALUE:
    '*(u32 *)(r10 - 20) = 0\nr2 = r10\nr2 += -20\nr1 = map[array] ll\ncall bpf_map_lookup_elem\nif r0 == 0 goto out\nr6 = r0\nr1 = r0\nr2 = 48\nr3 = 0\nr4 = r10\nr4 += -16\ncall bpf_dynptr_from_mem',
  ELEMENT:
    '*(u32 *)(r10 - 20) = 0\nr2 = r10\nr2 += -20\nr1 = map[array] ll\ncall bpf_map_lookup_elem\nif r0 == 0 goto out\nr9 = r0',
  RING: 'r1 = map[ring] ll\nr2 = 8\nr3 = 0\nr4 = r10\nr4 += -16\ncall bpf_ringbuf_reserve_dynptr',
  SLICE:
    'r1 = r10\nr1 += -16\nr2 = 0\nr3 = r10\nr3 += -40\nr4 = 14\ncall kfunc[0 bpf_dynptr_slice]\nif r0 == 0 goto out',
  SLICE_RW:
    'r1 = r10\nr1 += -16\nr2 = 0\nr3 = r10\nr3 += -40\nr4 = 14\ncall kfunc[0 bpf_dynptr_slice_rdwr]\nif r0 == 0 goto out',
  BITS: 'r1 = r10\nr1 += -16\nr2 = r10\nr2 += -32\nr3 = 1\ncall kfunc[0 bpf_iter_bits_new]',
  CAST: 'r2 = 0\ncall kfunc[0 bpf_rdonly_cast]',
  RESERVE: 'r1 = map[ring] ll\nr2 = 16\nr3 = 0\ncall bpf_ringbuf_reserve',
  SKB: 'r2 = *(u32 *)(r1 + 76)\nr3 = *(u32 *)(r1 + 80)\nr4 = r2\nr4 += 14',
};

const MACRO = new RegExp(`\\b(${Object.keys(MACROS).join('|')})\\b`, 'g');

export interface Case {
  readonly name: string;
  readonly type: 'socket_filter' | 'xdp' | 'sched_cls' | 'cgroup_skb';
  readonly attachType: string | undefined;
  readonly license: string;
  /** Functions get types that say no more than that they are some, which the kernel wants of some programs. */
  readonly typed: boolean;
  readonly text: string;
}

export const CASES: readonly Case[] = FILES.flatMap(file =>
  readFileSync(new URL(file, import.meta.url), 'utf8')
    .trim()
    .split(/^## /m)
    .slice(1),
).map(block => {
  const [title = '', ...lines] = block.split('\n');
  const [name = '', context = ''] = title.split('@');
  const words = context.split(' ').filter(word => word !== '');
  const license = words.find(word => word.startsWith('license='))?.slice('license='.length) ?? 'GPL';
  const [type = 'socket_filter', attachType] = words.filter(word => !word.includes('='));
  const text = lines
    .join('\n')
    .replace(/^(\w+: )?(r\d) = fp(-\d+)$/gm, '$1$2 = r10\n$2 += $3')
    .replace(/\bkfunc (\w+)$/gm, 'call kfunc[0 bpf_$1]')
    .replace(MACRO, macro => MACROS[macro]!);
  return {
    name: context === '' ? name.trim() : `${name.trim()} (${type})`,
    type: type as Case['type'],
    attachType,
    license,
    typed: words.includes('types=plain') || text.includes('func['),
    text,
  };
});
