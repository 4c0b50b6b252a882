import { tailCallSuite } from '../jit/suites/tail-call.ts';
import { arm64Platform } from './emulator.ts';

tailCallSuite(arm64Platform);
