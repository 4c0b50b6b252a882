/**
 * The control socket of a run: `switchyard run --control PATH` listens there, `switchyard map --control PATH` asks. Over a unix socket go
 * lines of JSON: a request (`MapRequest`), and its answer or `{"error": {"code", "message"}}`.
 *
 * The replay itself is on native threads, so requests are answered while it runs. Only its owner may connect.
 */
import { chmodSync, statSync, unlinkSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { SwitchyardError } from '../core.ts';
import { errorJson, exitCode, RemoteError, UsageError } from './errors.ts';
import { answer, type MapAnswer, type MapRequest, type MapTarget } from './map-commands.ts';

/** Longest line of a request, bytes. */
const MAX_REQUEST = 16 << 20;
const COMMANDS = ['list', 'dump', 'get', 'set', 'delete'];

/** @throws UsageError `no_control` where the path can't be listened at */
export async function listen(path: string, target: () => MapTarget): Promise<{ close(): void }> {
  await removeStale(path);
  const sockets = new Set<Socket>();
  const server = createServer(socket => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    lines(socket, line => {
      let response: unknown;
      try {
        response = answer(target(), parseRequest(line));
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw error;
        response = { error: { ...errorJson(error), exitCode: exitCode(error) } };
      }
      socket.write(`${JSON.stringify(response)}\n`);
    });
  });
  await opened(server, path);
  // Requests must not keep the process alive once the run has ended.
  server.unref();
  return {
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function opened(server: Server, path: string): Promise<void> {
  return new Promise((done, failed) => {
    server.on('error', cause =>
      failed(new UsageError('no_control', `cannot listen at ${path}: ${cause.message}`, { path }, { cause })),
    );
    server.listen(path, () => {
      chmodSync(path, 0o600);
      done();
    });
  });
}

/** A socket that nobody listens at is left by a run that was killed. */
async function removeStale(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const alive = await new Promise<boolean>(done => {
    const probe = createConnection(path);
    probe.on('connect', () => done(true)).on('error', () => done(false));
    probe.on('connect', () => probe.destroy());
  });
  if (alive) throw new UsageError('no_control', `another run listens at ${path}`, { path });
  unlinkSync(path);
}

function lines(socket: Socket, use: (line: string) => void): void {
  let text = '';
  socket.setEncoding('utf8').on('data', chunk => {
    text += String(chunk);
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = text.slice(0, end);
      text = text.slice(end + 1);
      use(line);
    }
    if (text.length > MAX_REQUEST) socket.destroy();
  });
}

function parseRequest(line: string): MapRequest {
  let request: Record<string, unknown>;
  try {
    request = JSON.parse(line) as Record<string, unknown>;
  } catch (cause) {
    throw new UsageError('bad_usage', 'a request is a line of JSON', {}, { cause });
  }
  const isText = (value: unknown): boolean => value === undefined || typeof value === 'string';
  const isRequest =
    typeof request === 'object' &&
    request !== null &&
    COMMANDS.includes(request.command as string) &&
    [request.map, request.key, request.value].every(isText) &&
    [undefined, 'any', 'noExist', 'exist'].includes(request.mode as never);
  if (!isRequest)
    throw new UsageError('bad_usage', `a request has a command (${COMMANDS.join(', ')}), map, key, value, mode`);
  return request as unknown as MapRequest;
}

/** @throws UsageError `no_control`; RemoteError for what the other side refused */
export function ask(path: string, request: MapRequest): Promise<MapAnswer> {
  return new Promise((done, failed) => {
    const refuse = (why: string, cause?: unknown): void =>
      failed(
        new UsageError('no_control', `${path}: ${why}; is there a run with --control ${path}?`, { path }, { cause }),
      );
    const socket = createConnection(path);
    socket.on('error', cause => refuse(cause.message, cause));
    socket.on('close', () => refuse('the run ended before it answered'));
    lines(socket, line => {
      socket.destroy();
      let response: MapAnswer & { error?: { code: string; message: string; exitCode: number } };
      try {
        response = JSON.parse(line);
      } catch (cause) {
        return refuse('what listens there is no switchyard', cause);
      }
      if (response.error) failed(new RemoteError(response.error.code, response.error.message, response.error.exitCode));
      else done(response);
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
}
