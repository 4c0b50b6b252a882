import { afterAll, describe, expect, test } from 'vitest';
import { helperName, LAST_HELPER } from '../../src/helpers/names.ts';
import { refusedHelper } from '../../src/helpers/refused.ts';
import { HELPER_ROUTINES } from '../../src/helpers/routines.ts';
import { HELPERS, helperRoutine } from '../../src/helpers/table.ts';
import { lowerRoutine } from '../../src/lowering/routine.ts';
import { openScratch } from '../kernel/scratch.ts';
import { accepted, attempt, program } from '../verifier/support.ts';

const kernel = openScratch(8);
afterAll(() => kernel?.dispose());
const TYPES = ['socket_filter', 'sched_cls', 'sched_act', 'xdp', 'cgroup_skb'] as const;
const NOT_FOR_TYPE = /cannot use helper|unknown func|invalid func/;

describe('helper table', () => {
  test('numbers and names are those of the uapi', () => {
    for (const [id, { id: own, name }] of HELPERS) expect([own, name]).toEqual([id, helperName(id)]);
    expect(LAST_HELPER).toBe(211);
    expect([helperName(0), helperName(1), helperName(211), helperName(212), helperName(-1)]).toEqual([
      undefined,
      'map_lookup_elem',
      'cgrp_storage_delete',
      undefined,
      undefined,
    ]);
  });

  test.skipIf(kernel === undefined)('program types and GPL are as in the running kernel', () => {
    const differences: string[] = [];
    for (const { id, name, programTypes, gplOnly } of HELPERS.values()) {
      for (const type of TYPES) {
        const probe = `call ${id}\nr0 = 0\nexit`;
        const log = kernel!.refusal(type, probe);
        const allowed = log === undefined || !NOT_FOR_TYPE.test(log);
        if (allowed !== programTypes.includes(type)) differences.push(`${name} in ${type}: kernel says ${allowed}`);
        const gpl = allowed && /GPL/.test(kernel!.refusal(type, probe, 'Proprietary') ?? '');
        if (allowed && gpl !== (gplOnly ?? false)) differences.push(`${name}: gplOnly is ${gpl}`);
      }
    }
    expect(differences).toEqual([]);
  });

  test("each helper that is not there is refused by name, and in the kernel's words where that refuses it too", () => {
    let inTheirWords = 0;
    for (let id = 1; id <= LAST_HELPER; id++) {
      if (HELPERS.has(id)) continue;
      const probe = `call ${id}\nr0 = 0\nexit`;
      const ours = attempt(program('xdp', probe));
      if (accepted(ours)) throw new Error(`${helperName(id)} is accepted`);
      const { reason } = refusedHelper(id)!;
      expect(ours.message).toContain(reason === undefined ? 'may not call' : reason);
      expect(ours.text).toBe(`program of this type cannot use helper bpf_${helperName(id)}#${id}`);
      const theirs = kernel?.refusal('xdp', probe);
      if (theirs === undefined || !NOT_FOR_TYPE.test(theirs)) continue;
      expect(theirs).toContain(ours.text);
      inTheirWords++;
    }
    if (kernel !== undefined) expect(inTheirWords).toBeGreaterThan(60);
  });

  test('each helper is a routine, but for tail_call', () => {
    const names = new Set(HELPER_ROUTINES.map(routine => routine.name));
    const missing: string[] = [];
    for (const { id, programTypes } of HELPERS.values()) {
      for (const type of programTypes) {
        const routine = helperRoutine(id, undefined, type);
        if (routine === undefined || !names.has(routine)) missing.push(`${id} ${routine}`);
      }
    }
    // The map operations' bodies are the maps' own.
    expect([...new Set(missing)].sort()).toEqual([
      '1 bpf_map_lookup_elem',
      '12 undefined',
      '130 bpf_ringbuf_output',
      '131 bpf_ringbuf_reserve',
      '132 bpf_ringbuf_submit',
      '133 bpf_ringbuf_discard',
      '134 bpf_ringbuf_query',
      '164 bpf_for_each_map_elem',
      '195 bpf_map_lookup_percpu_elem',
      '2 bpf_map_update_elem',
      '209 bpf_user_ringbuf_drain',
      '3 bpf_map_delete_elem',
      '81 bpf_get_local_storage',
      '87 bpf_map_push_elem',
      '88 bpf_map_pop_elem',
      '89 bpf_map_peek_elem',
      '93 bpf_spin_lock',
      '94 bpf_spin_unlock',
    ]);
    expect(helperRoutine(1, 'percpu_hash', 'xdp')).toBe('percpu_hash_lookup');
    expect(helperRoutine(88, 'stack', 'xdp')).toBe('stack_pop');
    expect(helperRoutine(2, 'lpm_trie', 'xdp')).toBe('bpf_map_update_elem');
    expect([helperRoutine(23, undefined, 'xdp'), helperRoutine(23, undefined, 'sched_cls')]).toEqual([
      'bpf_xdp_redirect',
      'bpf_redirect',
    ]);
    expect(helperRoutine(4, undefined, 'xdp')).toBeUndefined();
  });

  test('routines have distinct names, assemble, and call only what exists', () => {
    const names = HELPER_ROUTINES.map(routine => routine.name);
    expect(new Set(names).size).toBe(names.length);
    const called = new Set<string>();
    for (const routine of HELPER_ROUTINES) {
      for (const insn of lowerRoutine(routine).insns) if (insn.kind === 'callRoutine') called.add(insn.routine);
    }
    // Bodies of the maps.
    expect([...called].filter(name => !names.includes(name)).sort()).toEqual([
      'bpf_map_lookup_elem',
      'bpf_ringbuf_discard',
      'bpf_ringbuf_reserve',
      'bpf_ringbuf_submit',
      'hash_lookup',
      'lpm_trie_lookup',
    ]);
  });
});
