/**
 * What came in through the public API, looked at before anything is done with it.
 *
 * Types are gone at run time, and not every caller has them. So each public function says in a line what its arguments must be; whatever
 * else comes ends in an `ArgumentError` that names the argument, never in a TypeError of some line within, nor in a default that
 * nobody asked for. A check is a function of the value and its name; checks of structures are put together from those of
 * their parts, and the name grows on the way down: `collection.maps.get("flows").keySize`.
 */
import { SwitchyardError } from './errors.ts';

/** An argument of a public function is not what its type says. `details`: `argument`, `expected`, `got`. */
export class ArgumentError extends SwitchyardError<'bad_argument'> {}

/** @throws ArgumentError */
export type Check = (value: unknown, name: string) => void;

const SHOWN_CHARACTERS = 60;

/** A short text for any value whatever, also such that `String` throws for. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}...` : value);
    case 'bigint':
      return `${value}n`;
    case 'symbol':
      return value.toString();
    case 'function':
      return 'a function';
    case 'object': {
      if (value === null) return 'null';
      if (value instanceof Error) return `${value.name}: ${value.message}`;
      if (Array.isArray(value)) return `an array of ${value.length}`;
      if (ArrayBuffer.isView(value)) {
        const kind = Object.prototype.toString.call(value).slice(8, -1);
        return isDetached(value) ? `a ${kind} whose buffer is gone` : `a ${kind} of ${value.byteLength} bytes`;
      }
      const kind = Object.prototype.toString.call(value).slice(8, -1);
      return kind === 'Object' ? 'an object' : `an object of type ${kind}`;
    }
    default:
      return String(value);
  }
}

/** @throws ArgumentError, always */
export function refuse(name: string, expected: string, value: unknown): never {
  const got = describe(value);
  throw new ArgumentError('bad_argument', `${name}: expected ${expected}, got ${got}`, {
    argument: name,
    expected,
    got,
  });
}

/** Its buffer was transferred, or shrank so far that the view lies outside. */
function isDetached(view: ArrayBufferView): boolean {
  try {
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    return view.byteLength === 0 && outside(view);
  } catch {
    return true;
  }
}

/** An empty view says nothing about its buffer; a method of typed arrays does: one that compilers don't leave out. */
function outside(view: ArrayBufferView): boolean {
  if (!(view instanceof Uint8Array)) return false;
  try {
    view.fill(0);
    return false;
  } catch {
    return true;
  }
}

/** Bytes that are there: not of a buffer that was transferred to a worker, say. */
export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && (value.length > 0 || !outside(value));
}

const bytes: Check = (value, name) => {
  if (!isBytes(value)) refuse(name, 'a Uint8Array', value);
};

const string: Check = (value, name) => {
  if (typeof value !== 'string') refuse(name, 'a string', value);
};

const boolean: Check = (value, name) => {
  if (typeof value !== 'boolean') refuse(name, 'true or false', value);
};

const bigint: Check = (value, name) => {
  if (typeof value !== 'bigint') refuse(name, 'a bigint', value);
};

const callable: Check = (value, name) => {
  if (typeof value !== 'function') refuse(name, 'a function', value);
};

/** Whoever asks for it says what ranges there are. */
const number: Check = (value, name) => {
  if (typeof value !== 'number') refuse(name, 'a number', value);
};

/** @param max inclusive */
function integer(min: number, max: number): Check {
  return (value, name) => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      refuse(name, `an integer from ${min} to ${max}`, value);
    }
  };
}

const u32: Check = integer(0, 0xffff_ffff);
/** A count, an index, an offset. */
const natural: Check = integer(0, Number.MAX_SAFE_INTEGER);

function oneOf(...choices: readonly (string | number | boolean)[]): Check {
  return (value, name) => {
    if (!choices.includes(value as string)) refuse(name, choices.map(describe).join(' or '), value);
  };
}

function optional(check: Check): Check {
  return (value, name) => {
    if (value !== undefined) check(value, name);
  };
}

/** Each of an array's elements. */
function arrayOf(check: Check): Check {
  return (value, name) => {
    if (!Array.isArray(value)) refuse(name, 'an array', value);
    for (let i = 0; i < value.length; i++) check(value[i], `${name}[${i}]`);
  };
}

const array: Check = arrayOf(() => {});

const iterable: Check = (value, name) => {
  const found = value !== null && value !== undefined && typeof (value as Iterable<unknown>)[Symbol.iterator];
  if (found !== 'function' || (ArrayBuffer.isView(value) && isDetached(value))) refuse(name, 'an iterable', value);
};

/** What has a Map's `get` and iteration. */
function mapOf(check: Check, key: Check = string): Check {
  return (value, name) => {
    if (!(value instanceof Map)) refuse(name, 'a Map', value);
    for (const [at, element] of value) {
      key(at, `a key of ${name}`);
      check(element, `${name}.get(${describe(at)})`);
    }
  };
}

/** An object with these members; it may have others. */
function record(members: Readonly<Record<string, Check>>): Check {
  const all = Object.entries(members);
  return (value, name) => {
    if (typeof value !== 'object' || value === null) refuse(name, 'an object', value);
    for (const [member, check] of all) check((value as Record<string, unknown>)[member], `${name}.${member}`);
  };
}

/** The options of a function: an object whose members may all be left out. */
function options(members: Readonly<Record<string, Check>>): Check {
  const check = record(Object.fromEntries(Object.entries(members).map(([name, check]) => [name, optional(check)])));
  return (value, name) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
      refuse(name, 'an object', value);
    }
    check(value, name);
  };
}

function instanceOf(type: abstract new (...args: never[]) => unknown, what: string): Check {
  return (value, name) => {
    if (!(value instanceof type)) refuse(name, what, value);
  };
}

/** What an AbortController gives; one of another realm will do. */
const abortSignal: Check = (value, name) => {
  const signal = value as Partial<AbortSignal> | null;
  if (typeof signal?.addEventListener !== 'function' || typeof signal.aborted !== 'boolean') {
    refuse(name, 'an AbortSignal', value);
  }
};

/**
 * Does something with a structure that only our own functions make, but that anyone may have put together by hand: what goes wrong
 * within it is a mistake of its maker.
 * @param ours whether one of our functions made it; then errors are ours, and stay as they are
 * @throws ArgumentError in place of a TypeError, RangeError or SyntaxError
 */
export function withForeign<T>(name: string, ours: boolean, use: () => T): T {
  if (ours) return use();
  try {
    return use();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError)) throw error;
    throw new ArgumentError(
      'bad_argument',
      `${name} is malformed: ${error.message}`,
      { argument: name },
      { cause: error },
    );
  }
}

/** What arguments can be asked to be. Those that take arguments themselves make a check. */
export const check = {
  abortSignal,
  array,
  arrayOf,
  bigint,
  boolean,
  bytes,
  callable,
  instanceOf,
  integer,
  iterable,
  mapOf,
  natural,
  number,
  oneOf,
  optional,
  options,
  record,
  string,
  u32,
} as const;
