import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encode } from '../../src/isa/codec.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { parseObject } from '../../src/object/parse.ts';
import type { Collection, ProgramSpec } from '../../src/object/spec.ts';
import { COMPILERS, FIXTURES, fixture, kernelLoader, linkObjects, loadInKernel, readObject } from './support.ts';

const LOAD_IMM64 = 0x18;

/** References by name have no wire form; a plain number in their place leaves the opcode as it is. */
function opcodes(program: ProgramSpec): Uint8Array {
  const plain = program.insns.map(
    (insn): Instruction => (insn.kind === 'loadImm64' ? { ...insn, value: 0n, reference: undefined } : insn),
  );
  return encode(plain);
}

function subprogram(program: ProgramSpec, name: string) {
  const found = program.subprograms.find(candidate => candidate.name === name);
  if (found === undefined) throw new Error(`${program.name} has no subprogram ${name}`);
  return found;
}

function references(program: ProgramSpec): string[] {
  return program.insns.flatMap(insn => {
    if (insn.kind !== 'loadImm64' || insn.reference === undefined) return [];
    const { reference } = insn;
    if (reference.type === 'map') return [reference.map];
    if (reference.type === 'mapValue') return [`${reference.map}+${reference.offset}`];
    return [reference.type];
  });
}

describe('the committed pipeline object', () => {
  const collection = parseObject(fixture('pipeline'));
  const program = (name: string): ProgramSpec => collection.programs.get(name)!;

  test('several functions in one section are several programs, typed by section', () => {
    const rows = [...collection.programs.values()].map(({ name, section, type, attachType, xdpFrags }) => ({
      name,
      section,
      type,
      attachType,
      xdpFrags,
    }));
    const xdp = { section: 'xdp', type: 'xdp', attachType: 'xdp', xdpFrags: false };
    expect(rows.sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
      { name: 'classify', section: 'tc', type: 'sched_cls', attachType: undefined, xdpFrags: false },
      { name: 'entry', ...xdp },
      { name: 'large', ...xdp, section: 'xdp.frags', xdpFrags: true },
      { name: 'stage_one', ...xdp },
      { name: 'stage_two', ...xdp },
    ]);
    expect(collection.license).toBe('GPL');
    expect(program('entry').license).toBe('GPL');
  });

  test('called functions follow the program in the order of a depth-first walk', () => {
    expect(program('entry').subprograms.map(({ name }) => name)).toEqual(['entry', 'global_twice', 'add', 'on_entry']);
    expect(program('stage_one').subprograms.map(({ name }) => name)).toEqual([
      'stage_one',
      'weak_id',
      'hidden_half',
      'add',
    ]);
    expect(program('stage_two').subprograms).toHaveLength(1);
  });

  test('only visible non-static functions are global', () => {
    expect(subprogram(program('entry'), 'global_twice').linkage).toBe('global');
    expect(subprogram(program('entry'), 'add').linkage).toBe('static');
    expect(subprogram(program('entry'), 'on_entry').linkage).toBe('static');
    expect(subprogram(program('stage_one'), 'weak_id').linkage).toBe('global');
    expect(subprogram(program('stage_one'), 'hidden_half').linkage).toBe('static');
  });

  test('calls and callbacks point to the first slot of their function', () => {
    const { insns, subprograms } = program('entry');
    const starts = new Set(subprograms.map(({ start }) => start));
    let calls = 0;
    for (const [at, insn] of insns.entries()) {
      if (insn.kind === 'callSubprogram') {
        expect(starts).toContain(at + 1 + insn.offset);
        calls++;
      }
      if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') {
        expect(at + 1 + insn.reference.offset).toBe(subprogram(program('entry'), 'on_entry').start);
        calls++;
      }
    }
    expect(calls).toBe(3);
  });

  test('maps are named, variables named with their offset', () => {
    expect(references(program('entry'))).toEqual([
      'flows',
      '.data+0',
      'function',
      'stages',
      '.rodata+0',
      '.data+4',
      '.bss+0',
    ]);
    expect(references(program('stage_two'))).toEqual(['.rodata+16', '.data.custom+0']);
  });

  test('source lines follow their instructions, also into subprograms', () => {
    const { lines, insns } = program('entry');
    const add = subprogram(program('entry'), 'add');
    const first = lines.find(line => line.insn === add.start);
    expect(first?.text).toBe('static __noinline int add(int a, int b) { return a + b + step; }');
    expect(first?.file).toBe('./pipeline.c');
    expect(lines.map(line => line.insn)).toEqual(lines.map(line => line.insn).toSorted((a, b) => a - b));
    const call = insns.findIndex(insn => insn.kind === 'callHelper' && insn.helper === 12);
    expect(lines.findLast(line => line.insn <= call)?.text).toBe('bpf_tail_call(ctx, &stages, 1);');
  });

  test('functions keep their BTF', () => {
    const { btf } = collection;
    for (const { name, btfId } of program('entry').subprograms) expect(btf?.name(btfId ?? 0)).toBe(name);
  });
});

describe('externs', () => {
  const collection = parseObject(fixture('externs'));

  test('a weak symbol is 0 and a weak configuration value reads from a map of zeros', () => {
    const weak = collection.programs.get('weak')!;
    const loads = weak.insns.filter(insn => insn.kind === 'loadImm64');
    expect(loads.map(({ value, reference }) => ({ value, reference }))).toEqual([
      { value: 0n, reference: undefined },
      { value: 0n, reference: { type: 'mapValue', map: '.kconfig', offset: 0 } },
    ]);
    expect(collection.maps.get('.kconfig')).toMatchObject({ type: 'array', valueSize: 8, contents: [], frozen: true });
  });

  test('kernel functions keep their name', () => {
    expect(collection.programs.get('kfunc')!.insns).toContainEqual({
      kind: 'callKfunc',
      btfId: 0,
      module: 0,
      name: 'bpf_dynptr_from_xdp',
    });
  });
});

describe('an object that an assembler left, without sizes, types and BTF', () => {
  const { programs, maps } = parseObject(fixture('plain'));

  test('global symbols start functions', () => {
    expect([...programs.keys()]).toEqual(['sum', 'again']);
    expect(programs.get('again')!.insns).toHaveLength(2);
    expect(programs.get('sum')!.subprograms).toEqual([
      { name: 'sum', start: 0, linkage: 'static', btfId: undefined },
      { name: 'double_it', start: 4, linkage: 'static', btfId: undefined },
      { name: 'helper_two', start: 11, linkage: 'static', btfId: undefined },
    ]);
    expect(maps.size).toBe(0);
  });

  test('calls are relocated', () => {
    const calls = programs
      .get('sum')!
      .insns.flatMap((insn, at) => (insn.kind === 'callSubprogram' ? [at + 1 + insn.offset] : []));
    expect(calls).toEqual([4, 11]);
  });
});

describe('data that holds addresses', () => {
  test('is no map where no program uses it', () => {
    const { maps, programs } = parseObject(fixture('addresses'));
    expect([...maps.keys()]).not.toContain('.data.names');
    expect(programs.size).toBe(1);
  });

  test('is refused where one does', () => {
    expect(() => parseObject(fixture('addresses-used'))).toThrow(
      expect.objectContaining({
        code: 'unsupported_relocation',
        details: { section: '.data.names', symbol: '.rodata.str1.1', offset: 0 },
      }),
    );
  });
});

const bpftool = kernelLoader();
const objects = [
  { label: 'fixture', path: () => join(FIXTURES, 'pipeline.o') },
  {
    label: 'two objects linked by bpftool',
    path: () => linkObjects(bpftool!, 'linked', [join(FIXTURES, 'values.o'), join(FIXTURES, 'pipeline.o')]),
  },
  ...COMPILERS.map(({ label, compile }) => ({ label, path: () => compile('pipeline') })),
];

describe.skipIf(bpftool === undefined)('against libbpf and the kernel', () => {
  test.for(objects)('$label: same subprograms at the same slots, same instructions', ({ path }) => {
    const object = path();
    const { subprograms, listings, sources, text: log } = loadInKernel(bpftool!, object);
    const collection: Collection = parseObject(readObject(object));
    let compared = 0;
    let lines = 0;
    for (const program of collection.programs.values()) {
      const [, ...rest] = program.subprograms;
      expect(new Map(rest.map(({ name, start }) => [name, start])), program.name).toEqual(
        subprograms.get(program.name) ?? new Map(),
      );
      for (const [slot, { text, line }] of sources.get(program.name) ?? []) {
        const found = program.lines.findLast(candidate => candidate.insn <= slot);
        expect({ text: found?.text, line: found?.line }, `${program.name} ${slot}`).toEqual({ text, line });
        lines++;
      }
      const listing = listings.get(program.name);
      if (listing === undefined) continue;
      const bytes = opcodes(program);
      for (const [slot, { opcode, text }] of listing) {
        expect(bytes[slot * 8], `${program.name} ${slot}: ${text}`).toBe(opcode);
        const insn = program.insns[slot]!;
        const call = /^call pc([+-]\d+)/.exec(text);
        if (call) expect(insn).toEqual({ kind: 'callSubprogram', offset: Number(call[1]) });
        if (opcode === LOAD_IMM64)
          expect(text.startsWith(`r${insn.kind === 'loadImm64' ? insn.dst : '?'} = `)).toBe(true);
        compared++;
      }
      const covered = program.insns.filter(insn => insn.kind !== 'wide').length;
      expect(listing.size, program.name).toBe(covered);
    }
    expect(subprograms.size).toBe(4);
    if (/^; .* @ \S+:\d+$/m.test(log)) expect(lines).toBeGreaterThan(15);
    if (log.includes('Live regs before insn')) expect(compared).toBeGreaterThan(100);
  });
});
