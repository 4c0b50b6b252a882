/**
 * `switchyard run --watch`: the capture is replayed over and over, and each new build of the object takes over from the old one
 * under the running replay.
 *
 * A new build is loaded beside the old one: maps that are alike are shared with their contents, prog arrays and the others are
 * made anew. Then one transaction lets all runs that start enter the new build. Whatever goes wrong before that (the
 * compiler, the file, the verifier) is shown, and the old build goes on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  type BackendName,
  type BpfMap,
  type Collection,
  createRuntime,
  type LoadedObject,
  mapDifference,
  newMisses,
  type PredictedMiss,
  type Program,
  type Runtime,
  SwitchyardError,
} from '../index.ts';
import { errorJson, UsageError } from './errors.ts';
import { FileWatcher, lastWritten } from './file-watcher.ts';
import { findProgram, mentionUnsupported, parseBytes, readBytes, readCaptureFile } from './files.ts';
import { addRows, type HitRow, type MissRow, tailCallHits, tailCallMisses } from './misses.ts';
import { arenaSize, checkLinkTypes, loadPrograms, type RunOptions, show, TraceLines } from './run.ts';
import { checkRunMaps, openRunMaps } from './run-maps.ts';
import { fillTables } from './tables.ts';
import { clearProgress, Progress } from './terminal.ts';

export interface WatchOptions extends RunOptions {
  readonly build?: string;
  readonly source?: readonly string[];
  readonly strict?: boolean;
}

/** Address space for maps of builds to come that are larger than those of the first. */
const ARENA_RESERVE = 512 << 20;
const MAX_REPEAT = 0xffff_ffff;
/** A file that does not parse may be half written by a compiler that takes its time, ms. */
const PATIENCE_MS = 1000;

/** What the old build's map became. */
interface NewMap {
  readonly map: string;
  readonly reason: string;
}

interface Build {
  readonly object: LoadedObject;
  readonly collection: Collection;
}

const wait = (milliseconds: number) => new Promise(done => setTimeout(done, milliseconds));
const round = (number: number, digits: number) => Number(number.toFixed(digits));

export async function watch(path: string, options: WatchOptions): Promise<void> {
  const refuse = (message: string) => new UsageError('bad_usage', message);
  checkRunMaps(options);
  const { backend, workers, output, source, build } = options;
  if (backend === 'kernel')
    throw refuse('the kernel runs one packet a call, there is no replay to watch; leave out --watch');
  if (backend === 'interpreter' && workers > 1) {
    throw refuse('the interpreter runs on one thread; leave out --workers or --backend');
  }
  if (output !== undefined) throw refuse('with --watch packets are replayed without end; leave out --output');
  if (source !== undefined && build === undefined) throw refuse('--source says when to build; add --build <command>');
  await new Watch(path, options, backend).run();
}

class Watch {
  readonly #path: string;
  readonly #options: WatchOptions;
  readonly #backend: BackendName | undefined;
  readonly #abort = new AbortController();
  #runtime!: Runtime;
  /** Runs are started in this program of the first build; transactions lead them to others. */
  #entry!: Program;
  #build!: Build;
  #builds = 1;
  /** Of builds that were replaced. */
  #misses: readonly MissRow[] = [];
  #hits: readonly HitRow[] = [];
  #packets = 0;
  /** What was tried last, loaded or refused. */
  #bytes: Uint8Array | undefined;
  #sources: readonly string[] = [];
  #builder: ChildProcess | undefined;
  /** Loads and compilations, one after the other. */
  #queue: Promise<void> = Promise.resolve();
  /** What ended the queue; only our own mistakes do. */
  #failure: { readonly error: unknown } | undefined;
  readonly #watchers: FileWatcher[] = [];

  constructor(path: string, options: WatchOptions, backend: BackendName | undefined) {
    this.#path = path;
    this.#options = options;
    this.#backend = backend;
  }

  async run(): Promise<void> {
    const { build, workers, input } = this.#options;
    if (build !== undefined && !existsSync(this.#path) && !(await this.#compile())) {
      throw new UsageError('build_failed', `${this.#path} could not be built; there is nothing to run`);
    }
    this.#bytes = readBytes(this.#path, 'object');
    const collection = parseBytes(this.#bytes, this.#options.btf);
    mentionUnsupported(collection);
    const { type } = findProgram(collection, this.#options.program);
    const capture = readCaptureFile(input);
    if (type !== 'raw') checkLinkTypes(capture, input);
    const packets = capture.packets.map(({ data }) => data);
    if (packets.length === 0) throw new UsageError('bad_usage', `${input} has no packets to replay`, { path: input });
    if (build !== undefined) this.#findSources(collection);
    const trace = new TraceLines();
    this.#runtime = createRuntime({
      ...(this.#backend && { backend: this.#backend }),
      cpus: workers + 1,
      arenaSize: Math.min(arenaSize(collection, workers) + ARENA_RESERVE, 2 ** 32),
      onTrace: trace.add,
    });
    const stop = () => this.#abort.abort();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
    try {
      // What the first transaction makes, once for all before anything runs.
      this.#runtime.transaction(() => {});
      fillTables(this.#runtime, this.#options);
      this.#build = { object: loadPrograms(this.#runtime, collection, this.#options), collection };
      this.#entry = this.#build.object.program(this.#options.program);
      const maps = await openRunMaps(this.#options, () => this.#build.object);
      this.#watch();
      const result = await this.#replay(packets).finally(maps.close);
      this.#close();
      await this.#queue;
      if (this.#failure) throw this.#failure.error;
      maps.save();
      this.#count(this.#build.object);
      const counts = { misses: this.#misses, hits: this.#hits };
      show(this.#build.object, this.#entry, result, this.#options, counts, { builds: this.#builds });
      trace.print(this.#options.json === true);
    } finally {
      this.#close();
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop);
      await this.#runtime.dispose();
    }
  }

  /** Until interrupted, or as often as asked for. */
  async #replay(packets: readonly Uint8Array[]) {
    const { workers, repeat = Number.POSITIVE_INFINITY } = this.#options;
    const { signal } = this.#abort;
    const progress = new Progress(Number.isFinite(repeat) ? packets.length * repeat : undefined, 'packets');
    const verdicts: Record<string, number> = {};
    const sum = { packets: 0, bytes: 0, elapsedNs: 0, verdicts };
    for (let left = repeat; left > 0 && !signal.aborted; left -= MAX_REPEAT) {
      const part = await this.#entry.replayAsync(packets, {
        repeat: Math.min(left, MAX_REPEAT),
        workers,
        signal,
        onProgress: count => {
          this.#packets = sum.packets + count;
          progress.update(this.#packets);
        },
      });
      sum.packets += part.packets;
      sum.bytes += part.bytes;
      sum.elapsedNs += part.elapsedNs;
      for (const [name, count] of Object.entries(part.verdicts)) verdicts[name] = (verdicts[name] ?? 0) + count;
    }
    progress.end();
    return sum;
  }

  #watch(): void {
    const object = new FileWatcher(
      () => [this.#path],
      () => this.#soon(() => this.#reload(object)),
    );
    this.#watchers.push(object);
    // What was written between reading the file and now.
    this.#soon(() => this.#reload(object));
    if (this.#options.build !== undefined) {
      const compile = async () => {
        if (await this.#compile()) await this.#reload(object);
      };
      this.#watchers.push(
        new FileWatcher(
          () => this.#sources,
          () => this.#soon(compile),
        ),
      );
      if (lastWritten(this.#sources) > lastWritten([this.#path])) this.#soon(compile);
    }
    this.#tell(
      { event: 'watching', object: this.#path, sources: this.#sources },
      `watching ${[this.#path, ...this.#sources].join(', ')}; an interrupt ends the run`,
    );
  }

  #soon(work: () => Promise<void>): void {
    this.#queue = this.#queue.then(async () => {
      if (this.#abort.signal.aborted) return;
      try {
        await work();
      } catch (error) {
        this.#failure ??= { error };
        this.#abort.abort();
      }
    });
  }

  #close(): void {
    this.#abort.abort();
    for (const watcher of this.#watchers.splice(0)) watcher.close();
    const pid = this.#builder?.pid;
    if (pid === undefined) return;
    try {
      // The shell and what it started.
      process.kill(-pid);
    } catch {
      // It has ended.
    }
  }

  /** Files that the build command reads: as told, or those the object's line information names. @throws UsageError for none */
  #findSources(collection: Collection): void {
    const { source } = this.#options;
    if (source !== undefined && source.length > 0) {
      this.#sources = source;
      return;
    }
    const names = new Set([...collection.programs.values()].flatMap(({ lines }) => lines.map(({ file }) => file)));
    const found = [...names].flatMap(name => {
      const places = [resolve(name), resolve(dirname(this.#path), name)];
      return places.find(place => existsSync(place)) ?? [];
    });
    if (found.length > 0) this.#sources = found;
    if (this.#sources.length > 0) return;
    throw new UsageError(
      'bad_usage',
      `none of the source files of ${this.#path} was found (${[...names].join(', ') || 'it has no line information'}); name them with --source`,
    );
  }

  /** @returns whether the build command succeeded; if not, that was told */
  async #compile(): Promise<boolean> {
    const command = this.#options.build!;
    this.#tell({ event: 'building', command }, `building: ${command}`);
    const ended = await new Promise<{ code: number | null; signal: string | null }>(done => {
      // What it prints is for people, so it goes where errors go.
      const child = spawn(command, { shell: true, detached: true, stdio: ['ignore', 2, 2] });
      this.#builder = child;
      child.on('error', () => done({ code: null, signal: null }));
      child.on('exit', (code, signal) => done({ code, signal }));
    });
    this.#builder = undefined;
    if (ended.code === 0) return true;
    if (!this.#abort.signal.aborted) {
      const { code, signal } = ended;
      const how = signal === null ? `with exit code ${code ?? 'unknown'}` : `by ${signal}`;
      this.#tell({ event: 'build_failed', exitCode: code, signal }, `the build command ended ${how}${this.#goesOn()}`);
    }
    return false;
  }

  async #reload(watcher: FileWatcher): Promise<void> {
    const state = watcher.state();
    let bytes: Uint8Array;
    try {
      bytes = readBytes(this.#path, 'object');
    } catch (error) {
      // Compilers that fail take it away, which was told. Else it is on its way from one build to the next.
      if (this.#options.build !== undefined) return;
      await wait(PATIENCE_MS);
      if (watcher.state() === state) this.#refused(error);
      return;
    }
    if (this.#bytes && Buffer.compare(this.#bytes, bytes) === 0) return;
    let collection: Collection;
    try {
      collection = parseBytes(bytes, this.#options.btf);
    } catch (error) {
      await wait(PATIENCE_MS);
      // Another look will follow.
      if (watcher.state() !== state) return;
      this.#bytes = bytes;
      this.#refused(error);
      return;
    }
    this.#bytes = bytes;
    try {
      await this.#takeOver(collection);
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      this.#refused(error);
    }
  }

  /** @throws SwitchyardError; then nothing is changed */
  async #takeOver(collection: Collection): Promise<void> {
    const start = performance.now();
    findProgram(collection, this.#options.program);
    const old = this.#build;
    const { kept, made } = this.#shareMaps(collection);
    const object = loadPrograms(this.#runtime, collection, this.#options, kept);
    const loadMs = performance.now() - start;
    const mayMiss = newMisses(this.#graph(old.object), this.#graph(object));
    try {
      if (this.#options.strict) refuse(mayMiss);
      const next = object.program(this.#options.program);
      const begin = performance.now();
      const { committed, settled } = this.#runtime.transaction(tx => tx.replace(this.#entry, next));
      await committed;
      const commitMs = performance.now() - begin;
      this.#build = { object, collection };
      this.#builds++;
      if (this.#options.build !== undefined) this.#findSources(collection);
      this.#tookOver({ loadMs, commitMs, kept: [...kept.keys()], made, mayMiss });
      await settled;
      if (this.#options.json) console.log(JSON.stringify({ event: 'settled', build: this.#builds }));
    } catch (error) {
      object.dispose();
      throw error;
    }
    this.#count(old.object);
    // Runs are still started in the first build's program.
    if (old.object.programs.get(this.#options.program) !== this.#entry) old.object.dispose();
    else for (const program of old.object.programs.values()) if (program !== this.#entry) program.dispose();
  }

  /** What no run is in any more. */
  #count(object: LoadedObject): void {
    this.#misses = addRows(this.#misses, tailCallMisses(object));
    this.#hits = addRows(this.#hits, tailCallHits(object));
  }

  #graph(object: LoadedObject) {
    return object.tailCallGraph({ entries: [this.#options.program] });
  }

  /** Maps of the old build that serve the new one, and why the others don't. */
  #shareMaps(collection: Collection): { kept: Map<string, BpfMap>; made: NewMap[] } {
    const old = this.#build;
    const reasons = new Map<string, string>();
    for (const [name, { type }] of collection.maps) {
      // Those of the old build stay as they are until the last run has left it.
      if (type === 'prog_array') continue;
      const reason = mapDifference(name, old.collection, collection);
      if (reason !== undefined) reasons.set(name, reason);
    }
    // A map of maps stays with what is in it.
    for (const [name, { contents }] of collection.maps) {
      for (const entry of contents) {
        if (!('map' in entry) || !reasons.has(entry.map) || reasons.has(name)) continue;
        reasons.set(name, `${entry.map} in it is another one`);
      }
    }
    const kept = new Map(
      [...collection.maps].flatMap(([name, { type }]) =>
        type === 'prog_array' || reasons.has(name) ? [] : [[name, old.object.map(name)] as const],
      ),
    );
    return { kept, made: [...reasons].map(([map, reason]) => ({ map, reason })) };
  }

  #tookOver(of: {
    loadMs: number;
    commitMs: number;
    kept: string[];
    made: NewMap[];
    mayMiss: readonly PredictedMiss[];
  }) {
    const { kept, made, mayMiss } = of;
    const loadMs = round(of.loadMs, 1);
    const commitUs = round(of.commitMs * 1000, 1);
    const lines = [
      `build ${this.#builds} of ${this.#path} took over: checked and compiled in ${loadMs} ms, committed in ${commitUs} us`,
      ...(kept.length > 0 ? [`  maps kept: ${kept.join(', ')}`] : []),
      ...made.map(({ map, reason }) => `  map made anew: ${map}, since ${reason}`),
      ...mayMiss.map(site => `  may fall through now: ${missText(site)}`),
    ];
    const sites = mayMiss.map(({ line, ...site }) => ({ ...site, file: line?.file ?? null, line: line?.line ?? null }));
    const event = { event: 'took_over', build: this.#builds, packets: this.#packets, loadMs, commitUs };
    this.#tell({ ...event, keptMaps: kept, newMaps: made, mayMiss: sites }, lines.join('\n'));
  }

  #refused(error: unknown): void {
    const { code, message } = errorJson(error);
    this.#tell({ event: 'refused', error: { code, message } }, `${message}${this.#goesOn()}`);
  }

  #goesOn(): string {
    return `\nswitchyard: build ${this.#builds} goes on`;
  }

  /** One line of JSON each, or text beside the output. */
  #tell(event: object, text: string): void {
    if (this.#options.json) console.log(JSON.stringify(event));
    clearProgress();
    console.error(`switchyard: ${text}`);
  }
}

const missText = ({ map, from, to, program, insn, line }: PredictedMiss) =>
  `${map}[${from === to ? from : `${from}..${to}`}] is empty, from ${program}, insn ${insn}${line ? ` (${line.file}:${line.line}: ${line.text.trim()})` : ''}`;

function refuse(sites: readonly PredictedMiss[]): void {
  if (sites.length === 0) return;
  throw new UsageError(
    'would_miss',
    `with this build tail calls could fall through that could not before; fill the slots, or leave out --strict${sites.map(site => `\n  ${missText(site)}`).join('')}`,
    { sites },
  );
}
