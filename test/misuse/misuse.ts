/**
 * Values that no argument is meant to have, and what is asked of a call that gets one: it returns, or throws (or rejects with) an
 * error of Switchyard that has a code. A TypeError of some line within, a hang, or the end of the process is a failure.
 */
import { SwitchyardError } from '../../src/index.ts';

/** Its buffer belongs to somebody else by now. */
function detached(): Uint8Array {
  const bytes = new Uint8Array(16);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

function cyclic(): object {
  const value: Record<string, unknown> = {};
  value.self = value;
  return value;
}

/** By name: makers, since some values can be spoiled by a call. */
export const WRONG: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  null: () => null,
  NaN: () => Number.NaN,
  Infinity: () => Number.POSITIVE_INFINITY,
  '-1': () => -1,
  '1': () => 1,
  '1.5': () => 1.5,
  '2^32': () => 2 ** 32,
  '2^53': () => 2 ** 53,
  '1n': () => 1n,
  '-1n': () => -1n,
  '2^70 as bigint': () => 2n ** 70n,
  'empty string': () => '',
  string: () => 'x',
  __proto__name: () => '__proto__',
  constructorName: () => 'constructor',
  true: () => true,
  symbol: () => Symbol('s'),
  object: () => ({}),
  'empty array': () => [],
  '[null]': () => [null],
  '[undefined]': () => [undefined],
  '[1]': () => [1],
  'object without prototype': () => Object.create(null),
  function: () => () => {},
  Map: () => new Map(),
  'Map of numbers': () => new Map([['x', 1]]),
  'no bytes': () => new Uint8Array(0),
  '3 bytes': () => new Uint8Array(3),
  'detached bytes': detached,
  'shared bytes': () => new Uint8Array(new SharedArrayBuffer(16)),
  ArrayBuffer: () => new ArrayBuffer(8),
  Float64Array: () => new Float64Array(2),
  cyclic,
  promise: () => Promise.resolve(1),
};

/** Fewer, for structures with many places. */
const FEW: typeof WRONG = Object.fromEntries(
  [
    'undefined',
    'null',
    'NaN',
    '-1',
    '1.5',
    '1n',
    'string',
    'symbol',
    'object',
    '[null]',
    'detached bytes',
    'cyclic',
  ].map(name => [name, WRONG[name]!]),
);

const HANGS_MS = 5000;
const HANGS = Symbol('hangs');

/** What is wrong with how a call took its arguments; undefined where nothing is. */
export async function complaint(call: () => unknown): Promise<string | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const limit = new Promise(resolve => {
      timer = setTimeout(() => resolve(HANGS), HANGS_MS);
    });
    return (await Promise.race([call(), limit])) === HANGS ? 'hangs' : undefined;
  } catch (error) {
    if (!(error instanceof SwitchyardError)) return `threw ${Object.prototype.toString.call(error)} ${error}`;
    const { code, message, details } = error;
    const good = typeof code === 'string' && /^[a-z_0-9]+$/.test(code) && message.length > 8 && details !== undefined;
    return good ? undefined : `threw an error without a code: ${code} ${message}`;
  } finally {
    clearTimeout(timer);
  }
}

export interface Call {
  readonly run: (...args: never[]) => unknown;
  /** What a good call has. */
  readonly args: readonly (() => unknown)[];
  /** Members of the argument of that number that are spoiled one by one. */
  readonly members?: Readonly<Record<number, readonly string[]>>;
}

/** Calls with each argument, and each of those members, replaced by each wrong value. @returns the complaints */
export async function spoil(name: string, { run, args, members = {} }: Call, wrong = WRONG): Promise<string[]> {
  const complaints: string[] = [];
  const attempt = async (what: string, given: readonly unknown[]): Promise<void> => {
    const found = await complaint(() => run(...(given as never[])));
    if (found !== undefined) complaints.push(`${name} with ${what}: ${found}`);
  };
  await attempt('no arguments', []);
  for (const [kind, make] of Object.entries(wrong)) {
    for (let i = 0; i < args.length; i++) {
      const given = args.map(good => good());
      await attempt(`argument ${i} = ${kind}`, given.with(i, make()));
      for (const member of members[i] ?? []) {
        await attempt(
          `${member} of argument ${i} = ${kind}`,
          given.with(i, { ...(given[i] as object), [member]: make() }),
        );
      }
    }
  }
  return complaints;
}

type Place = readonly unknown[];

/** The places in a structure of plain objects, arrays and Maps. */
function* places(value: unknown, depth: number, width: number): Generator<Place> {
  if (depth < 0 || typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  const plain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
  const entries = value instanceof Map ? [...value] : plain ? Object.entries(value) : [];
  for (const [key, inner] of entries.slice(0, Array.isArray(value) || value instanceof Map ? width : undefined)) {
    yield [key];
    for (const place of places(inner, depth - 1, width)) yield [key, ...place];
  }
}

function replaced(value: unknown, [key, ...rest]: Place, by: unknown): unknown {
  if (value instanceof Map) return new Map(value).set(key, rest.length === 0 ? by : replaced(value.get(key), rest, by));
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string, unknown>;
  copy[key as string] = rest.length === 0 ? by : replaced(copy[key as string], rest, by);
  return copy;
}

/** Calls with a structure of which one place after the other is spoiled. @returns the complaints */
export async function spoilWithin(
  name: string,
  value: unknown,
  run: (value: never) => unknown,
  { depth = 3, width = 3 }: { readonly depth?: number; readonly width?: number } = {},
): Promise<string[]> {
  const complaints: string[] = [];
  for (const place of places(value, depth, width)) {
    for (const [kind, make] of Object.entries(FEW)) {
      const found = await complaint(() => run(replaced(value, place, make()) as never));
      if (found !== undefined) complaints.push(`${name} with ${place.map(String).join('.')} = ${kind}: ${found}`);
    }
  }
  return complaints;
}
