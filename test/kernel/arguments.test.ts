/** What the types of the calls forbid and JavaScript passes all the same: typed errors, before the kernel sees any of it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  assemble,
  KernelBtf,
  KernelError,
  KernelJudge,
  type KernelObject,
  listTranslated,
  loadIntoKernel,
  programFromInstructions,
} from '../../src/index.ts';
import { kernelMissing, mapSpec } from './support.ts';

// biome-ignore lint/suspicious/noExplicitAny: whatever JavaScript may pass
type Anything = any;

const program = programFromInstructions({ name: 'pass', type: 'xdp', insns: assemble('r0 = 2\nexit') });
const collection = {
  programs: new Map([['pass', program]]),
  maps: new Map([
    ['hash', mapSpec({ name: 'hash', type: 'hash' })],
    ['slots', mapSpec({ name: 'slots', type: 'prog_array' })],
    ['bloom', mapSpec({ name: 'bloom', type: 'bloom_filter', keySize: 0 })],
  ]),
  license: 'GPL',
  btf: undefined,
};

describe.skipIf(kernelMissing() !== undefined)('arguments of the wrong kind', () => {
  let object: KernelObject;
  beforeAll(() => {
    object = loadIntoKernel(collection);
  });
  afterAll(() => object.dispose());

  const KEY = new Uint8Array(4);
  const hash = (): Anything => object.map('hash');
  const run = (): Anything => object.program('pass');
  const FRAME = new Uint8Array(64);
  const calls: readonly (readonly [string, () => unknown])[] = [
    ['a key that is missing', () => hash().lookup()],
    ['a key that is null', () => hash().delete(null)],
    ['a key that is a number', () => hash().update(1, KEY)],
    ['a key that is text of the right length', () => hash().lookup('abcd')],
    ['a key that is an array of the right length', () => hash().nextKey([1, 0, 0, 0])],
    ['a value that is missing', () => hash().update(KEY)],
    ['flags that are a fraction', () => hash().lookup(KEY, 1.5)],
    ['flags that are no number', () => hash().update(KEY, KEY, Number.NaN)],
    ['flags that are negative', () => hash().update(KEY, KEY, -1)],
    ['flags that are text', () => hash().lookup(KEY, 'x')],
    ['a batch that is a number', () => hash().updateBatch(5)],
    ['a batch of nothing', () => hash().updateBatch([undefined])],
    ['a batch without values', () => hash().updateBatch([[KEY]])],
    ['a batch of keys that are none', () => hash().deleteBatch([1, 2])],
    ['a cursor that is text', () => hash().lookupBatch(1, 'abcd')],
    ['flags of a batch that are a fraction', () => hash().lookupBatch(1, undefined, 0.5)],
    ['a value that a Bloom filter has no room for', () => object.map('bloom').peek(new Uint8Array(3))],
    ['a slot for nothing', () => (object.progArray('slots') as Anything).set(0, undefined)],
    ['a slot for a name', () => (object.progArray('slots') as Anything).set(0, 'pass')],
    ['no packet', () => run().run()],
    ['a packet that is text', () => run().run('frame')],
    ['a packet without data', () => run().run({ mark: 1 })],
    ['a packet that is an array', () => run().run([1, 2, 3])],
    ['options that are null', () => run().run(FRAME, null)],
    ['a context that is text', () => run().run(FRAME, { context: 'x' })],
    ['runs that are text', () => run().run(FRAME, { repeat: '5' })],
    ['a mark that is a fraction', () => run().run({ data: FRAME, mark: 0.5 })],
    ['a listing of half an instruction', () => listTranslated(new Uint8Array(5))],
    ['a listing of text', () => listTranslated('code' as Anything)],
    ['no object', () => loadIntoKernel(undefined as Anything)],
    ['an object that is a path', () => loadIntoKernel('router.bpf.o' as Anything)],
    ['an object without anything', () => loadIntoKernel({} as Anything)],
    ['a log level that there is not', () => loadIntoKernel(collection, { logLevel: 3 as Anything })],
    ['a judge of nothing', () => new KernelJudge({} as Anything)],
    ['types that are text', () => new KernelBtf('types' as Anything)],
    [
      'a map of no known type',
      () => loadIntoKernel({ ...collection, maps: new Map([['m', mapSpec({ type: 'toString' as Anything })]]) }),
    ],
  ];
  test.each(calls)('%s', (_, call) => {
    try {
      call();
    } catch (error) {
      expect(error).toBeInstanceOf(KernelError);
      expect((error as KernelError).code).toBe('bad_argument');
      return;
    }
    throw new Error('nothing was thrown');
  });

  test('a program of a type that is not loaded here', () => {
    const probe = { ...program, type: 'kprobe' as Anything };
    expect(() => loadIntoKernel({ ...collection, programs: new Map([['pass', probe]]) })).toThrow(
      /program pass is of type kprobe/,
    );
  });
});
