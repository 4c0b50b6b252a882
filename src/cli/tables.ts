/** What programs find beside the packet: routes and sockets, from JSON files. */
import type { RouteTable, Runtime, Socket, SocketOptions } from '../index.ts';
import { UsageError } from './errors.ts';
import { readBytes } from './files.ts';

export interface TableOptions {
  /** JSON of a RouteTable. */
  readonly routes?: string;
  /** JSON of an array of SocketOptions; see `docs/maps.md`. */
  readonly sockets?: string;
}

/** @throws UsageError `unreadable_file`, `bad_usage`; RuntimeError as of `Routes.set` and `SocketTable.add` */
export function fillTables(runtime: Runtime, { routes, sockets }: TableOptions): void {
  if (routes !== undefined) {
    const table = readJson(routes, 'routes');
    if (!isFields(table))
      throw new UsageError('bad_usage', `routes ${routes}: expected an object of interfaces, routes and neighbours`, {
        path: routes,
      });
    // What is in it `Routes.set` checks.
    runtime.routes.set(table as unknown as RouteTable);
  }
  if (sockets !== undefined) addSockets(runtime, sockets);
}

function readJson(path: string, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(readBytes(path, what)));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new UsageError('unreadable_file', `${what} ${path} are no JSON: ${cause.message}`, { path }, { cause });
  }
}

type Fields = Readonly<Record<string, unknown>>;
type Refuse = (field: string, expected: string) => never;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const WORDS: Readonly<Record<string, readonly unknown[]>> = {
  protocol: ['tcp', 'udp'],
  kind: ['full', 'request', 'timewait'],
  v6Only: [true, false],
};
const NUMBERS = ['state', 'mark', 'priority', 'uid', 'classId', 'boundDevice', 'rxQueueMapping'];
/** 64 bits wide: a number or its digits. */
const WIDE = ['bytesReceived', 'bytesAcked'];

function addSockets(runtime: Runtime, path: string): void {
  const list = readJson(path, 'sockets');
  if (!Array.isArray(list))
    throw new UsageError('bad_usage', `sockets ${path}: expected an array of sockets`, { path });
  const made: Socket[] = [];
  for (const [index, given] of list.entries()) {
    const refuse: Refuse = (field, expected) => {
      throw new UsageError('bad_usage', `sockets ${path}: ${field} of socket ${index} must be ${expected}`, {
        path,
        index,
        field,
      });
    };
    if (!isFields(given))
      throw new UsageError('bad_usage', `sockets ${path}: socket ${index} is no object`, { path, index });
    made.push(runtime.sockets.add(socketOptions(given, made, refuse)));
  }
}

/** Only what JSON can get wrong that TypeScript can't; ranges are the runtime's business. */
function socketOptions(given: Fields, before: readonly Socket[], refuse: Refuse): SocketOptions {
  const options: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(given)) {
    if (Object.hasOwn(WORDS, field)) {
      const words = WORDS[field]!;
      options[field] = words.includes(value) ? value : refuse(field, `one of ${words.join(', ')}`);
    } else if (NUMBERS.includes(field)) options[field] = typeof value === 'number' ? value : refuse(field, 'a number');
    else if (field === 'local' || field === 'remote') options[field] = addressOf(field, value, refuse);
    else if (field === 'cookie') options[field] = wide(field, value, refuse);
    else if (field === 'tcp') options[field] = tcpMembers(value, refuse);
    else if (field === 'listener')
      options[field] = before[value as number] ?? refuse(field, 'the index of a socket before it in the file');
    else
      refuse(
        field,
        `left out: a socket has ${[...Object.keys(WORDS), ...NUMBERS].join(', ')}, local, remote, cookie, tcp, listener`,
      );
  }
  return options as SocketOptions;
}

function addressOf(field: string, value: unknown, refuse: Refuse): unknown {
  const whole = isFields(value) && typeof value.address === 'string' && typeof value.port === 'number';
  return whole ? value : refuse(field, '{"address": "192.0.2.1", "port": 80}');
}

function tcpMembers(value: unknown, refuse: Refuse): unknown {
  if (!isFields(value)) return refuse('tcp', 'an object of members of struct bpf_tcp_sock');
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name,
      WIDE.includes(name) ? wide(`tcp.${name}`, member, refuse) : member,
    ]),
  );
}

function wide(field: string, value: unknown, refuse: Refuse): bigint {
  const digits = typeof value === 'string' && /^\d{1,20}$/.test(value);
  return digits || Number.isSafeInteger(value)
    ? BigInt(value as string | number)
    : refuse(field, 'a number, or its digits as a string');
}
