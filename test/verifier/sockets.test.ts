/** Every read of every size at every offset of the three kinds of socket, against the running kernel. */
import { expect, it } from 'vitest';
import { openJudge } from '../kernel/support.ts';
import { accepted, attempt, MAP_BTF, MAPS, program } from './support.ts';

const CAST = {
  sock: 'call bpf_sk_fullsock\nif r0 == 0 goto out',
  tcp_sock: 'call bpf_tcp_sock\nif r0 == 0 goto out',
  sock_common: 'r0 = r1',
} as const;

/** Halves of eight-byte members, which the kernel refuses as a mistake of its own. */
const HALVES: ReadonlySet<string> = new Set(['tcp_sock 84 4', 'tcp_sock 92 4']);

it.each([
  ['sock', 84],
  ['sock_common', 84],
  ['tcp_sock', 116],
] as const)('%s', (kind, end) => {
  const judge = openJudge(MAPS, { programs: new Map(), btf: MAP_BTF });
  if (judge === undefined) return;
  let allowed = 0;
  for (let offset = -2; offset < end; offset++)
    for (const size of [1, 2, 4, 8]) {
      const place = `(r0 ${offset < 0 ? '-' : '+'} ${Math.abs(offset)})`;
      const text = `r1 = *(u64 *)(r1 + 168)\nif r1 == 0 goto out\n${CAST[kind]}\nr1 = *(u${8 * size} *)${place}\nout: r0 = 0\nexit`;
      const spec = program('sched_cls', text);
      const { accepted: theirs, log } = judge.judge(spec);
      const ours = attempt(spec);
      expect([offset, size, accepted(ours)]).toEqual([offset, size, theirs]);
      if (theirs) allowed++;
      else if (!accepted(ours) && !HALVES.has(`${kind} ${offset} ${size}`)) expect(log).toContain(ours.text);
    }
  expect(allowed).toBeGreaterThan(15);
  judge.dispose();
});
