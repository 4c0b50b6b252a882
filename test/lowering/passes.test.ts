import { describe, expect, test } from 'vitest';
import { LoweringError } from '../../src/lowering/errors.ts';
import { packTailCall } from '../../src/lowering/tail-call-imm.ts';
import { SkbContext, XdpContext } from '../../src/memory/layout.ts';
import { lowerText, map, type Setup, textOf, wanted } from './support.ts';

interface Row extends Setup {
  readonly name: string;
  readonly have: string;
  readonly want: string;
}

function rows(table: readonly Row[]): void {
  test.each(table)('$name', ({ have, want, ...setup }) => {
    expect(textOf(lowerText(have, setup).insns)).toEqual(wanted(want));
  });
}

function refuses(code: string, message: RegExp, have: string, setup: Setup): void {
  let error: unknown;
  try {
    lowerText(have, setup);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(LoweringError);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
}

describe('dead code', () => {
  rows([
    { name: 'nothing to do', have: 'r0 = 1\nexit', want: 'r0 = 1\nexit' },
    { name: 'goto the next instruction', have: 'r0 = 1\ngoto +0\nexit', want: 'r0 = 1\nexit' },
    { name: 'two gotos to the same place', have: 'r0 = 1\ngoto +1\ngoto +0\nexit', want: 'r0 = 1\nexit' },
    {
      name: 'goto over dead code',
      have: 'r0 = 1\ngoto +2\nr0 = 2\nr0 = 3\nexit',
      dead: [2, 3],
      want: 'r0 = 1\nexit',
    },
    {
      name: 'a dead loadImm64 goes with both slots',
      have: 'if r1 == 0 goto +4\nr0 = 1\nexit\nr2 = 0x1122334455667788 ll\nr0 = 2\nexit',
      dead: [3],
      want: 'if r1 == 0 goto +2\nr0 = 1\nexit\nr0 = 2\nexit',
    },
    {
      name: 'branch whose target is dead',
      have: 'if r1 == 0 goto +2\nr0 = 1\nexit\nr0 = 2\nexit',
      dead: [3, 4],
      want: 'r0 = 1\nexit',
    },
    {
      name: 'branch whose fall-through is dead, backwards',
      have: 'r0 = 1\ngoto +1\nexit\nif r0 == 1 goto -2\nr0 = 0\nexit',
      dead: [4, 5],
      want: 'r0 = 1\ngoto +1\nexit\ngoto -2',
    },
    {
      name: 'branch whose fall-through is dead, forwards',
      have: 'if r1 == r1 goto +2\nr0 = 0\nexit\nr0 = 1\nexit',
      dead: [1, 2],
      want: 'r0 = 1\nexit',
    },
    {
      name: 'conditional jump to the next instruction',
      have: 'if r1 == 0 goto +0\nr0 = 1\nexit',
      want: 'r0 = 1\nexit',
    },
    {
      name: 'callback that is named but never called',
      have: 'r2 = func[cb] ll\nr0 = 0\nexit\ncb:\nr0 = 1\nexit',
      dead: [4, 5],
      want: 'r2 = 0 ll\nr0 = 0\nexit',
    },
  ]);

  rows(
    (
      [
        [
          'branch whose target is dead',
          'if r1 == 0 goto +2\nr0 = 1\nexit\nr0 = 2\nr0 = 3\nexit',
          [3, 4, 5],
          'if r1 == 0 goto +2\nr0 = 1\nexit\nexit',
        ],
        [
          'branch whose fall-through is dead, at the end of the function',
          'r0 = 1\ngoto +1\nexit\nif r0 == 1 goto -2\nr2 = 0x1122334455667788 ll\nexit',
          [4, 6],
          'r0 = 1\ngoto +1\nexit\nif r0 == 1 goto -2\nexit',
        ],
        ['branch to the next instruction', 'if r1 == 0 goto +0\nr0 = 1\nexit', [], 'r0 = 1\nexit'],
        ['dead code behind a goto', 'r0 = 1\ngoto +1\nr0 = 2\nexit', [2], 'r0 = 1\nexit'],
      ] as const
    ).map(([name, have, dead, want]) => ({
      name: `${name}, kept for a check`,
      have,
      dead,
      want,
      options: { keepDeadBranches: true },
    })),
  );

  test('a subprogram that is never reached is dropped, others move', () => {
    const have = 'if r1 == 0 goto +1\ncall a\ncall b\nexit\na:\nr0 = 1\nexit\nb:\nr0 = 2\nexit';
    const { insns, subprograms, origin } = lowerText(have, { dead: [1, 4, 5] });
    expect(textOf(insns)).toEqual(wanted('call +1\nexit\nr0 = 2\nexit'));
    expect(subprograms).toMatchObject([
      { name: 'f0', start: 0, end: 2 },
      { name: 'f2', start: 2, end: 4 },
    ]);
    expect([...origin]).toEqual([2, 3, 6, 7]);
  });
});

describe('context access', () => {
  const { data, dataEnd, dataMeta, ingressIfindex, rxQueueIndex, egressIfindex } = XdpContext;
  rows([
    ...(
      [
        ['data', 0, 8, data],
        ['data_end', 4, 8, dataEnd],
        ['data_meta', 8, 8, dataMeta],
        ['ingress_ifindex', 12, 4, ingressIfindex],
        ['rx_queue_index', 16, 4, rxQueueIndex],
        ['egress_ifindex', 20, 4, egressIfindex],
      ] as const
    ).map(([field, uapi, size, offset]) => ({
      name: `xdp_md.${field}`,
      context: { 0: uapi },
      have: `r2 = *(u32 *)(r1 + ${uapi})\nexit`,
      want: `r2 = *(u${size * 8} *)(r1 + ${offset})\nexit`,
    })),
    ...(
      [
        ['data', 76, SkbContext.data],
        ['data_end', 80, SkbContext.dataEnd],
        ['data_meta', 140, SkbContext.dataMeta],
      ] as const
    ).map(([field, uapi, offset]) => ({
      name: `__sk_buff.${field}`,
      type: 'sched_cls' as const,
      context: { 0: uapi },
      have: `r2 = *(u32 *)(r6 + ${uapi})\nexit`,
      want: `r2 = *(u64 *)(r6 + ${offset})\nexit`,
    })),
    {
      name: '__sk_buff.len and a narrow load of protocol',
      type: 'sched_cls',
      context: { 0: 0, 1: 16, 2: 17 },
      have: 'r2 = *(u32 *)(r1 + 0)\nr3 = *(u16 *)(r1 + 16)\nr3 = *(u8 *)(r1 + 17)\nexit',
      want: 'r2 = *(u32 *)(r1 + 64)\nr3 = *(u16 *)(r1 + 80)\nr3 = *(u8 *)(r1 + 81)\nexit',
    },
    {
      name: 'stores: mark, cb (immediate), tstamp',
      type: 'sched_cls',
      context: { 0: 8, 1: 48, 2: 152 },
      have: '*(u32 *)(r1 + 8) = r2\n*(u64 *)(r1 + 48) = 7\n*(u64 *)(r1 + 152) = r3\nexit',
      want: '*(u32 *)(r1 + 72) = r2\n*(u64 *)(r1 + 112) = 7\n*(u64 *)(r1 + 216) = r3\nexit',
    },
    {
      name: 'stores to fields that the kernel keeps in 16 bits',
      type: 'sched_cls',
      context: { 0: 44, 1: 72, 2: 12, 3: 12, 4: 12 },
      have: '*(u32 *)(r1 + 44) = r2\n*(u32 *)(r1 + 72) = 65537\n*(u32 *)(r1 + 12) = r3\n*(u32 *)(r1 + 12) = 7\n*(u32 *)(r1 + 12) = 65535\nexit',
      want: '*(u16 *)(r1 + 108) = r2\n*(u16 *)(r1 + 136) = 65537\nif r3 >= 65535 goto +1\n*(u16 *)(r1 + 76) = r3\n*(u16 *)(r1 + 76) = 7\nexit',
    },
    {
      name: 'a base register that points into the context moves by the difference',
      type: 'sched_cls',
      context: { 1: 60 },
      have: 'r1 += 48\nr2 = *(u32 *)(r1 + 12)\nexit',
      want: 'r1 += 48\nr2 = *(u32 *)(r1 + 76)\nexit',
    },
    {
      name: 'other memory is left alone',
      context: { 0: 0 },
      have: 'r2 = *(u32 *)(r1 + 0)\nr3 = *(u32 *)(r2 + 0)\nexit',
      want: 'r2 = *(u64 *)(r1 + 0)\nr3 = *(u32 *)(r2 + 0)\nexit',
    },
  ]);

  test.each([
    { field: '__sk_buff.sk', type: 'sched_cls', at: 168, have: 'r2 = *(u32 *)(r1 + 168)\nexit' },
    { field: '__sk_buff.flow_keys', type: 'sched_cls', at: 144, have: 'r2 = *(u64 *)(r1 + 144)\nexit' },
    { field: '__sk_buff.data', type: 'sched_cls', at: 76, have: 'r2 = *(u16 *)(r1 + 76)\nexit' },
    { field: '__sk_buff.data_end', type: 'sched_cls', at: 80, have: 'r2 = *(s32 *)(r1 + 80)\nexit' },
    { field: '__sk_buff.data', type: 'sched_cls', at: 76, have: '*(u32 *)(r1 + 76) = r2\nexit' },
    { field: '__sk_buff.tc_classid', type: 'sched_cls', at: 72, have: 'r2 = *(u64 *)(r1 + 72)\nexit' },
    { field: 'xdp_md.egress_ifindex', type: 'xdp', at: 24, have: 'r2 = *(u32 *)(r1 + 24)\nexit' },
    { field: 'xdp_md.ingress_ifindex', type: 'xdp', at: 12, have: 'r2 = *(u8 *)(r1 + 12)\nexit' },
    { field: '__sk_buff.len', type: 'raw', at: 0, have: 'r2 = *(u8 *)(r1 + 0)\nexit' },
  ] as const)('refuses $type $field: $have', ({ field, type, at, have }) => {
    refuses('context_field', new RegExp(field.replace('.', '\\.')), have, { type, context: { 0: at } });
  });

  test('refuses an atomic on the context', () => {
    const have = 'lock *(u32 *)(r1 + 8) += r2\nexit';
    refuses('bad_facts', /only loads and stores/, have, { type: 'sched_cls', context: { 0: 8 } });
  });
});

describe('raw entry', () => {
  rows([
    {
      name: 'r2 is fetched at the entry, and not again by a loop',
      type: 'raw',
      have: 'r0 += r2\nr2 += -1\nif r2 != 0 goto -3\nexit',
      want: 'ax = run_context\nr2 = *(u64 *)(ax + 56)\nr0 += r2\nr2 += -1\nif r2 != 0 goto -3\nexit',
    },
  ]);

  test('origin is -1 for the made-up instructions; subprograms move', () => {
    const { origin, subprograms } = lowerText('call f\nexit\nf:\nr0 = 1\nexit', { type: 'raw' });
    expect([...origin]).toEqual([-1, -1, 0, 1, 2, 3]);
    expect(subprograms).toMatchObject([
      { start: 0, end: 4 },
      { start: 4, end: 6 },
    ]);
  });
});

describe('map references', () => {
  const maps = [map('a', 'hash'), map('b', 'array')];
  rows([
    {
      name: 'by name to index',
      maps,
      have: 'r1 = map[b] ll\nr2 = map[a] ll\nr3 = map_value[b]+12 ll\nr4 = 5 ll\nexit',
      want: 'r1 = map_address[1] ll\nr2 = map_address[0] ll\nr3 = map_value_address[1]+12 ll\nr4 = 5 ll\nexit',
    },
  ]);

  test('usedMaps keeps the verifier’s order and the sizes', () => {
    expect(lowerText('exit', { maps }).usedMaps).toEqual([
      { name: 'a', maxEntries: 8 },
      { name: 'b', maxEntries: 8 },
    ]);
  });

  test('a map that the verifier did not record is an error, not index 0', () => {
    refuses('unknown_map', /"c"/, 'r1 = map[c] ll\nexit', { maps });
  });
  test('a used map without a specification is an error', () => {
    refuses('unknown_map', /"zzz"/, 'exit', { usedMaps: ['zzz'] });
  });
  test('65 maps are an error', () => {
    refuses('unknown_map', /65 maps/, 'exit', { maps: Array.from({ length: 65 }, (_, i) => map(`m${i}`, 'hash')) });
  });
  test.each(['map_fd[3]', 'map_index[0]', 'btf_id[5, 0]'])('refuses %s', reference => {
    refuses('unsupported_instruction', /only maps by name/, `r1 = ${reference} ll\nexit`, {});
  });
});

describe('helper calls', () => {
  const lookup = (map: string | undefined, constantKey?: number, insn = 0) => ({
    helperCalls: [{ insn, helper: 1, map, constantKey }],
  });
  rows([
    { name: 'by number', have: 'call 5\nexit', want: 'call routine helper_5\nexit' },
    {
      name: 'specialised where the map is known',
      maps: [map('h', 'hash')],
      ...lookup('h'),
      have: 'call 1\nexit',
      want: 'call routine helper_1_hash\nexit',
    },
    {
      name: 'generic where it is not',
      maps: [map('h', 'hash')],
      ...lookup(undefined),
      have: 'call 1\nexit',
      want: 'call routine helper_1\nexit',
    },
    {
      name: 'current CPU',
      have: 'call 8\nexit',
      want: 'ax = run_context\nr0 = *(u32 *)(ax + 24)\nexit',
    },
  ]);
  test('refuses a helper without a routine', () => {
    refuses('unknown_helper', /helper 999/, 'call 999\nexit', { options: { helperRoutine: () => undefined } });
  });
  test('refuses a kernel function without a routine', () => {
    refuses('unknown_kfunc', /kernel function without a name/, 'call kfunc[7]\nexit', {});
    refuses('unknown_kfunc', /kernel function bpf_foo/, 'call kfunc[0 bpf_foo]\nexit', {});
  });
});

describe('tail calls', () => {
  const maps = [map('x', 'array'), map('p', 'prog_array', 4), map('q', 'prog_array', 4)];
  const site = (insn: number, names: string[], index: number | undefined) => ({
    insn,
    maps: names,
    index,
    indexMin: index ?? 0,
    indexMax: index ?? 3,
  });
  const imms = (setup: Setup, text = 'call 12\ncall 12\nexit') =>
    lowerText(text, { maps, ...setup }).insns.flatMap(insn => (insn.kind === 'tailCall' ? [insn.imm] : []));

  test('direct, static and dynamic sites', () => {
    const tailCalls = [site(0, ['p'], 3), site(1, ['q'], undefined), site(2, ['p', 'q'], 1)];
    const lowered = lowerText('call 12\ncall 12\ncall 12\nexit', { maps, tailCalls });
    expect(textOf(lowered.insns)).toEqual(wanted(`tail_call ${0x1_0001}\ntail_call 2\ntail_call ${0x100}\nexit`));
    expect(lowered.pokeTable).toEqual([{ insn: 0, map: 1, key: 3 }]);
  });

  test('an index at or above max_entries gets no poke', () => {
    expect(imms({ tailCalls: [site(0, ['p'], 4), site(1, ['p'], 0xffff_ffff)] })).toEqual([1, 1]);
  });

  test('a backend that cannot patch gets no pokes', () => {
    const tailCalls = [site(0, ['p'], 0), site(1, ['q'], 0)];
    expect(imms({ tailCalls, options: { pokes: false } })).toEqual([1, 2]);
  });

  test('the 1024th site that could be patched is static', () => {
    const text = `${'call 12\n'.repeat(1025)}exit`;
    const tailCalls = Array.from({ length: 1025 }, (_, i) => site(i, ['p'], i % 4));
    const all = imms({ tailCalls }, text);
    expect(all.slice(0, 1023)).toEqual(all.slice(0, 1023).map((_, i) => (i + 1) * 0x1_0000 + 1));
    expect(all.slice(1023)).toEqual([1, 1]);
    expect(lowerText(text, { maps, tailCalls }).pokeTable).toHaveLength(1023);
  });

  test('64 used maps: the last one is packed whole', () => {
    const many = Array.from({ length: 64 }, (_, i) => map(`p${i}`, 'prog_array'));
    const setup = { maps: many, tailCalls: [site(0, ['p63'], undefined)] };
    expect(imms(setup, 'call 12\nexit')).toEqual([packTailCall({ usedMap: 63, dynamic: false, poke: undefined })]);
  });

  test('poke slots follow later expansions', () => {
    const tailCalls = [site(1, ['p'], 0)];
    const lowered = lowerText('call 8\ncall 12\nexit', { type: 'raw', maps, tailCalls });
    expect(lowered.pokeTable).toHaveLength(1);
    expect(lowered.insns[lowered.pokeTable[0]!.insn]?.kind).toBe('tailCall');
  });

  test('a site without facts, or with an unknown map, is an error', () => {
    refuses('bad_facts', /instruction 0/, 'call 12\nexit', { maps });
    refuses('bad_facts', /instruction 0/, 'call 12\nexit', { maps, tailCalls: [site(0, [], 1)] });
    refuses('unknown_map', /"r"/, 'call 12\nexit', { maps, tailCalls: [site(0, ['r'], 1)] });
  });
});

describe('may_goto and legacy packet loads', () => {
  rows([
    {
      name: 'may_goto at the first instruction: the counter is set at the entry only',
      have: 'may_goto +2\nr0 += 1\ngoto -3\nexit',
      want: `
        *(u64 *)(r10 - 8) = 0x800000
        ax = *(u64 *)(r10 - 8)
        if ax == 0 goto +4
        ax -= 1
        *(u64 *)(r10 - 8) = ax
        r0 += 1
        goto -6
        exit`,
    },
    {
      name: 'LD_ABS',
      type: 'socket_filter',
      have: 'r6 = r1\nr0 = *(u16 *)skb[12]\nexit',
      want: `
        r6 = r1
        r2 = 12
        r1 = r6
        call routine skb_load_abs_2
        if r0 s>= 0 goto +2
        r0 = 0
        exit
        exit`,
    },
    {
      name: 'LD_IND by r1',
      type: 'socket_filter',
      have: 'r6 = r1\nr1 = 4\nr0 = *(u8 *)skb[r1 + 2]\nexit',
      want: `
        r6 = r1
        r1 = 4
        r2 = r1
        r2 += 2
        r1 = r6
        call routine skb_load_abs_1
        if r0 s>= 0 goto +2
        r0 = 0
        exit
        exit`,
    },
  ]);

  test('each function with may_goto has its own counter, below its own stack', () => {
    const have = 'call f\nexit\nf:\nmay_goto +0\nmay_goto +1\ngoto -2\nr0 = 0\nexit';
    const { subprograms } = lowerText(have, {
      subprograms: [
        { name: 'main', start: 0, end: 2, stackDepth: 16, ...NO_CALLS },
        { name: 'f', start: 2, end: 7, stackDepth: 20, ...NO_CALLS },
      ],
    });
    expect(subprograms).toMatchObject([{ stackDepth: 16 }, { stackDepth: 32 }]);
  });
});

const NO_CALLS = { hasTailCall: false, tailCallReachable: false, isCallback: false };
