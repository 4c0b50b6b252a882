/** Every function that the package exports, with arguments that it was not made for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as api from '../../src/index.ts';
import { kernelMissing } from '../kernel/support.ts';
import { collection, mapSpec } from '../runtime/build.ts';
import { type Call, spoil, spoilWithin } from './misuse.ts';

const fixture = (name: string): Uint8Array => readFileSync(join(import.meta.dirname, '../object/fixtures', name));
const object = fixture('typed.o');
const typed = api.parseObject(object);
const capture = readFileSync(join(import.meta.dirname, '../../examples/router/capture.pcap'));
const btf = typed.btf!;
const [aMap] = [...typed.maps.values()].filter(({ btfValueId }) => btfValueId !== undefined);

const calls = collection({
  programs: {
    start:
      'r6 = r1\nr2 = map[stages] ll\nr3 = *(u32 *)(r1 + 16)\ncall 12\nr1 = r6\nr2 = map[stages] ll\nr3 = 1\ncall 12\nr0 = 2\nexit',
  },
  maps: [
    { name: 'stages', type: 'prog_array', maxEntries: 4 },
    { name: 'counts', type: 'lru_hash', valueSize: 8, maxEntries: 8 },
  ],
});
const spec = calls.programs.get('start')!;
const verified = api.verifyProgram(spec, calls.maps);
const lowered = api.lowerProgram(verified, calls.maps, true, true);
const graph = api.tailCallGraph({ programs: [verified], maps: calls.maps, slots: new Map() });
const insns = api.assemble('r0 = 1\nr1 = map[counts] ll\n*(u32 *)(r10 - 4) = r0\nif r0 > 7 goto +1\ncall 5\nexit');

/** A header, no types, and the empty string. */
const EMPTY_BTF = Uint8Array.from([0x9f, 0xeb, 1, 0, 24, ...new Array(15).fill(0), 1, 0, 0, 0, 0]);
const COMPILE = ['arch', 'atomics', 'tailCallMode', 'tailCallChoices', 'pokes'];
const nothing = (): undefined => undefined;
/** A map of hash type that is empty. */
const empty = (): object => ({
  spec: mapSpec({ name: 'm', type: 'hash' }),
  lookup: nothing,
  update: nothing,
  delete: nothing,
  nextKey: nothing,
  entries: () => [],
});

const FUNCTIONS: Readonly<Record<string, Call>> = {
  assemble: { run: api.assemble, args: [() => 'exit', () => ({})], members: { 1: ['internal', 'helpers'] } },
  btfCodec: { run: api.btfCodec, args: [() => btf, () => aMap!.btfValueId] },
  compileCollection: {
    run: api.compileCollection,
    args: [() => calls, () => ({})],
    members: { 1: [...COMPILE, 'programs'] },
  },
  compileProgram: { run: api.compileProgram, args: [() => lowered, () => ({})], members: { 1: COMPILE } },
  createBufferHost: { run: api.createBufferHost, args: [() => 1 << 20] },
  createRuntime: {
    run: (options: api.CreateRuntimeOptions) => api.createRuntime(options).dispose(),
    args: [() => ({ arenaSize: 1 << 24, codeSize: 1 << 20 })],
    members: { 0: ['backend', 'arenaSize', 'codeSize', 'cpus', 'onTrace'] },
  },
  decode: { run: api.decode, args: [() => api.encode(api.assemble('exit'))] },
  decodeValue: {
    run: api.decodeValue,
    args: [() => btf, () => aMap!.btfValueId, () => new Uint8Array(aMap!.valueSize)],
  },
  deleteBatch: { run: api.deleteBatch, args: [empty, () => [], () => 0] },
  disassemble: { run: api.disassemble, args: [() => insns, () => ({})], members: { 1: ['helperName'] } },
  disassembleArm64: { run: api.disassembleArm64, args: [() => new Uint8Array(8)] },
  encode: { run: api.encode, args: [() => api.assemble('exit')] },
  globalVariables: { run: api.globalVariables, args: [() => typed] },
  lineAt: { run: api.lineAt, args: [() => spec.lines, () => 0] },
  lookupAndDeleteBatch: { run: api.lookupAndDeleteBatch, args: [empty, () => 1, () => 0] },
  lookupBatch: { run: api.lookupBatch, args: [empty, () => 1, () => undefined, () => 0] },
  lowerProgram: {
    run: api.lowerProgram,
    args: [() => verified, () => calls.maps, ...[1, 2, 3, 4].map(() => () => true)],
  },
  mapDifference: { run: api.mapDifference, args: [() => 'counts', () => calls, () => calls] },
  newMisses: { run: api.newMisses, args: [() => graph, () => graph] },
  parseBtf: { run: api.parseBtf, args: [() => EMPTY_BTF] },
  parseObject: {
    run: api.parseObject,
    args: [() => object, () => ({})],
    members: { 1: ['targetBtf', 'kconfig', 'skipUnsupported'] },
  },
  programFromInstructions: {
    run: api.programFromInstructions,
    args: [() => ({ name: 'p', type: 'xdp', insns })],
    members: { 0: ['name', 'type', 'insns', 'license', 'attachType'] },
  },
  readCapture: { run: api.readCapture, args: [() => capture] },
  symbolName: { run: api.symbolName, args: [() => ({ kind: 'map', index: 0 }), () => [{ name: 'm' }]] },
  tailCallGraph: {
    run: api.tailCallGraph,
    args: [() => ({ programs: [verified], maps: calls.maps, slots: new Map() })],
    members: { 0: ['programs', 'maps', 'slots', 'entries'] },
  },
  tailCallSites: { run: api.tailCallSites, args: [() => verified, () => lowered] },
  typedMap: {
    run: api.typedMap,
    args: [empty, () => ({ btf })],
    members: { 1: ['btf', 'mapById', 'putInner'] },
  },
  typescriptModule: {
    run: api.typescriptModule,
    args: [() => typed, () => ({ file: 'a.o', bytes: object, importFrom: 'switchyard' })],
    members: { 1: ['file', 'name', 'bytes', 'importFrom'] },
  },
  updateBatch: { run: api.updateBatch, args: [empty, () => [], () => 0] },
  verifyProgram: {
    run: api.verifyProgram,
    args: [() => spec, () => calls.maps, () => ({})],
    members: { 2: ['logLevel', 'memorySize', 'strictAlignment', 'unprivileged', 'uninitializedStack'] },
  },
  withGlobals: { run: api.withGlobals, args: [() => typed, () => ({})], members: { 1: ['x'] } },
  writeCapture: { run: api.writeCapture, args: [() => api.readCapture(capture)] },
};

const functionNames = kernelMissing() === undefined ? api.kernelFunctions() : undefined;
const PRIVILEGED: Readonly<Record<string, Call>> = {
  kernelFunctions: { run: (distance: number) => functionNames?.(distance), args: [() => 0] },
  listTranslated: { run: api.listTranslated, args: [() => new Uint8Array(8), () => ({})] },
  loadIntoKernel: {
    run: (input: api.Collection, options: api.KernelLoadOptions) => api.loadIntoKernel(input, options).dispose(),
    args: [() => calls, () => ({})],
    members: { 1: ['programs', 'logLevel', 'maps'] },
  },
};

const CLASSES: Readonly<Record<string, Call>> = {
  ...Object.fromEntries(
    [api.ArenaMap, api.BloomFilter, api.PerfEventArray, api.QueueMap, api.RingBuffer, api.UserRingBuffer].map(type => [
      type.name,
      {
        run: (spec: never, env: never, object: never) => new type(spec, env, object),
        args: [() => mapSpec({ name: 'm', type: 'queue' }), () => ({})],
      },
    ]),
  ),
  BtfCodec: {
    run: (a: never, b: never, c: never) => new api.BtfCodec(a, b, c),
    args: [() => btf, () => 1, () => ({})],
  },
  KernelBtf: { run: (of: never, programs: never) => new api.KernelBtf(of, programs), args: [() => btf, () => []] },
  KernelMap: {
    run: (of: never, types: never) => new api.KernelMap(of, types).dispose(),
    args: [() => mapSpec({ name: 'm', type: 'hash' }), () => undefined],
  },
  KernelJudge: { run: (of: never) => new api.KernelJudge(of).dispose(), args: [() => calls] },
  Runtime: {
    run: (host: never, options: never) => new api.Runtime(host, options),
    args: [() => api.createBufferHost(1 << 24), () => ({})],
  },
  TypedObject: { run: (of: never) => new api.TypedObject(of), args: [] },
};
/** Nobody makes them but those who throw them. */
const ERRORS = /Error$/;

test('every exported function and class is here', () => {
  const named = Object.entries(api).flatMap(([name, value]) => (typeof value === 'function' ? [name] : []));
  const known = Object.keys({ ...FUNCTIONS, ...PRIVILEGED, ...CLASSES });
  expect(named.filter(name => !ERRORS.test(name)).sort()).toEqual(known.sort());
});

test.each(Object.entries(FUNCTIONS))('%s', async (name, call) => {
  await call.run(...(call.args.map(good => good()) as never[]));
  expect(await spoil(name, call)).toEqual([]);
});

test.each(Object.entries(CLASSES))('new %s', async (name, call) => {
  expect(await spoil(name, call)).toEqual([]);
});

test.skipIf(kernelMissing() !== undefined).each(Object.entries(PRIVILEGED))('%s', async (name, call) => {
  expect(await spoil(name, call)).toEqual([]);
});

describe('structures put together by hand, one place spoiled', () => {
  const { btf: _, ...parts } = typed;
  const STRUCTURES: Readonly<Record<string, () => Promise<string[]>>> = {
    encode: () => spoilWithin('encode', insns, api.encode, { width: 20 }),
    disassemble: () => spoilWithin('disassemble', insns, api.disassemble, { width: 20 }),
    programFromInstructions: () =>
      spoilWithin('programFromInstructions', { name: 'p', type: 'xdp', insns }, api.programFromInstructions, {
        width: 20,
      }),
    verifyProgram: () =>
      spoilWithin('verifyProgram', spec, value => api.verifyProgram(value, calls.maps), { width: 20 }),
    'verifyProgram, maps': () => spoilWithin('verifyProgram', calls.maps, value => api.verifyProgram(spec, value)),
    lowerProgram: () => spoilWithin('lowerProgram', verified, value => api.lowerProgram(value, calls.maps, true)),
    compileProgram: () => spoilWithin('compileProgram', lowered, value => api.compileProgram(value), { width: 20 }),
    tailCallSites: () => spoilWithin('tailCallSites', verified, value => api.tailCallSites(value, lowered)),
    tailCallGraph: () =>
      spoilWithin('tailCallGraph', { programs: [verified], maps: calls.maps, slots: new Map() }, api.tailCallGraph),
    newMisses: () => spoilWithin('newMisses', graph, value => api.newMisses(graph, value)),
    writeCapture: () => {
      const { packets, ...rest } = api.readCapture(capture);
      return spoilWithin('writeCapture', { ...rest, packets: packets.slice(0, 2) }, api.writeCapture);
    },
    withGlobals: () =>
      spoilWithin('withGlobals', parts, value => api.withGlobals({ ...(value as typeof typed), btf }, {})),
    mapDifference: () => spoilWithin('mapDifference', calls, value => api.mapDifference('counts', calls, value)),
    typescriptModule: () =>
      spoilWithin('typescriptModule', parts, value =>
        api.typescriptModule({ ...(value as typeof typed), btf }, { file: 'a.o', bytes: object, importFrom: 'x' }),
      ),
    load: async () => {
      const runtime = api.createRuntime({ arenaSize: 1 << 24, codeSize: 1 << 20 });
      const complaints = await spoilWithin(
        'load',
        calls,
        value => {
          const loaded = runtime.load(value);
          for (const program of loaded.programs.values()) program.run(new Uint8Array(64));
          loaded.dispose();
        },
        { depth: 4 },
      );
      await runtime.dispose();
      return complaints;
    },
  };
  test.each(Object.entries(STRUCTURES))('%s', async (_name, run) => {
    expect(await run()).toEqual([]);
  });
});

test('what no encoding has is no instruction, though its fields are of the right types', () => {
  const verify = (change: object) =>
    api.verifyProgram(
      api.programFromInstructions({
        name: 'p',
        type: 'xdp',
        insns: [{ ...api.assemble('r0 = 1')[0]!, ...change }, api.assemble('exit')[0]!] as never,
      }),
      new Map(),
    );
  for (const change of [
    { imm: 2 ** 40 },
    { imm: 0.5 },
    { dst: 11 },
    { width: 33 },
    { op: 'neg', src: 3 },
    { kind: 'callService', service: 'x' },
  ]) {
    expect(() => verify(change), JSON.stringify(change)).toThrow(api.SwitchyardError);
  }
  expect(verify({ imm: 5 }).program.insns).toHaveLength(2);
});
