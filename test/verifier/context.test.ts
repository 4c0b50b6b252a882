import { expect, it } from 'vitest';
import { contextAccess } from '../../src/verifier/context.ts';
import { openJudge } from '../kernel/support.ts';
import { program } from './support.ts';

const TYPES = ['xdp', 'socket_filter', 'sched_cls', 'sched_act', 'cgroup_skb'] as const;
const SIZES = [1, 2, 4, 8] as const;

/** Every access that an instruction can make at offsets -4 to 199, as the kernel judges it. */
it.each(TYPES)('context accesses of %s are those of the running kernel', type => {
  const judge = openJudge(new Map());
  if (judge === undefined) return;
  let allowed = 0;
  for (let offset = -4; offset < 200; offset++)
    for (const size of SIZES)
      for (const mode of ['read', 'write', 'signed'] as const) {
        if (mode === 'signed' && size === 8) continue;
        const place = `(r1 ${offset < 0 ? '-' : '+'} ${Math.abs(offset)})`;
        const text =
          mode === 'write'
            ? `r0 = 0\n*(u${8 * size} *)${place} = r0\nexit`
            : `r0 = *(${mode === 'signed' ? 's' : 'u'}${8 * size} *)${place}\nr0 = 0\nexit`;
        const theirs = judge.judge(program(type, text), 0).accepted;
        const ours = contextAccess(type, undefined, offset, size, mode === 'write', mode === 'signed');
        expect(ours.allowed, `${type} ${mode} of ${size} at ${offset}`).toBe(theirs);
        if (theirs) allowed++;
      }
  expect(allowed).toBeGreaterThan(4);
  judge.dispose();
});
