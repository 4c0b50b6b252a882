import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { KFUNCS, kfuncRoutine, REFUSED_KFUNCS } from '../../src/helpers/kfuncs.ts';
import { HELPER_ROUTINES } from '../../src/helpers/routines.ts';
import { KERNEL_BTF } from '../../src/kernel/kfuncs.ts';
import { parseBtf } from '../../src/object/btf.ts';
import type { ProgramType } from '../../src/object/spec.ts';
import { openJudge } from '../kernel/support.ts';
import { program } from '../verifier/support.ts';

const TYPES: readonly ProgramType[] = ['xdp', 'sched_cls', 'sched_act', 'cgroup_skb', 'socket_filter'];
/** Whose refusal has to do with the function, but not with its being there: the kernel names it or its arguments. */
const NOT_FOR_TYPE = /calling kernel function \w+ is not allowed/;
const judge = openJudge(new Map());

function isCallable(type: ProgramType, name: string): boolean {
  const { log } = judge!.judge(program(type, `call kfunc[0 ${name}]\nr0 = 0\nexit`), 1);
  return !NOT_FOR_TYPE.test(log) && !log.includes('invalid func unknown');
}

describe('the table of kernel functions', () => {
  test('each has a routine for each of its program types, but for those without code', () => {
    const routines = new Set(HELPER_ROUTINES.map(({ name }) => name));
    for (const { name, programTypes, region } of KFUNCS.values())
      for (const type of programTypes) {
        const routine = kfuncRoutine(name, type)!;
        if (region !== undefined) expect(routine).toBe('');
        else expect(routines, `${name} for ${type}`).toContain(routine);
      }
    expect(kfuncRoutine('bpf_foo', 'xdp')).toBeUndefined();
  });

  test('none is both there and refused', () => {
    for (const name of REFUSED_KFUNCS.keys()) expect(KFUNCS.has(name), name).toBe(false);
  });

  test.skipIf(judge === undefined).each(TYPES)('the kernel registers the same for %s', type => {
    for (const { name, programTypes } of KFUNCS.values()) {
      const { log } = judge!.judge(program(type, `call kfunc[0 ${name}]\nr0 = 0\nexit`), 1);
      // The kernel registers what network cards know for every type; only xdp programs can use it.
      if (name.startsWith('bpf_xdp_metadata')) expect(log).toContain('metadata kfuncs require device-bound program');
      else expect([name, NOT_FOR_TYPE.test(log)]).toEqual([name, !programTypes.includes(type)]);
    }
  });

  test.skipIf(judge === undefined)('whatever the kernel lets one of the types call is there or refused by name', () => {
    const btf = parseBtf(readFileSync(KERNEL_BTF));
    const names = new Set<string>();
    for (let id = 1; id < btf.size; id++) {
      const tag = btf.kind(id) === 'decl_tag' ? btf.type(id) : undefined;
      if (tag?.kind === 'decl_tag' && tag.name === 'bpf_kfunc') names.add(btf.name(tag.type));
    }
    expect(names.size).toBeGreaterThan(150);
    const unnamed = [...names].filter(name => !KFUNCS.has(name) && !REFUSED_KFUNCS.has(name));
    const callable = unnamed.filter(name => TYPES.some(type => isCallable(type, name)));
    expect(callable).toEqual([]);
  });

  test.skipIf(judge === undefined)('what is refused exists there, for some of the types', () => {
    for (const name of REFUSED_KFUNCS.keys()) {
      expect([name, TYPES.some(type => isCallable(type, name))]).toEqual([name, true]);
    }
  });
});
