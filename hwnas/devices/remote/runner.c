/* Times an ONNX model with onnxruntime on the machine that this runs on, and writes JSON.
 *
 * hwnas builds nothing of this itself: it is compiled for a phone or a board with onnxruntime's C
 * API (docs/android.md has the commands), sent there, and started with the options of
 * hwnas/devices/remote/protocol.py, which says what each one and each field of the answer means.
 * Files are looked for in the current folder. Exit codes: 0, 1 with an error in the answer, 2 for
 * options that are not understood, 75 while another runner measures in the same folder.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "onnxruntime_c_api.h"

#ifndef SYSFS
#define SYSFS "/sys"
#endif

#define CORES SYSFS "/devices/system/cpu"
#define SCHEMA "hwnas.runner/1"
#define CONTENDED 1.03 /* wall over CPU time above which one thread was disturbed */
#define POLL_S 1.0     /* between two looks at the sensors while it cools down */
#define MOST_TENSORS 64

typedef struct {
    const char *model, *out, *provider, *optimization, *cores, *profile, *inputs, *outputs;
    double threads, warm_up, calm_runs, most_runs, least_s, most_s, cool_down_c, cool_down_most_s;
} Options;

typedef struct {
    double *wall_s, *cpu_s;
    long *preempted;
    size_t count, room;
} Samples;

typedef struct {
    OrtSession *session;
    OrtAllocator *allocator;
    size_t input_count, output_count;
    char *input_names[MOST_TENSORS], *output_names[MOST_TENSORS];
    OrtValue *inputs[MOST_TENSORS];
} Model;

static Options options = {.provider = "cpu", .optimization = "all", .cores = "", .threads = 1,
                          .warm_up = 1, .calm_runs = 10, .most_runs = 30, .least_s = 1,
                          .most_s = 60, .cool_down_most_s = 60};
static const OrtApi *ort;
static char part[4096]; /* the answer while it is being written */

/* ---- JSON ---- */

static void put_string(FILE *file, const char *text) {
    fputc('"', file);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(file, "\\%c", *c);
        else if (*c < 0x20 || *c >= 0x7f) /* bytes of any encoding, as the first 256 of Unicode */
            fprintf(file, "\\u%04x", *c);
        else
            fputc(*c, file);
    }
    fputc('"', file);
}

static void put_times(FILE *file, const char *name, const double *values, size_t count) {
    fprintf(file, ", \"%s\": [", name);
    for (size_t i = 0; i < count; i++) fprintf(file, "%s%.9g", i ? ", " : "", values[i]);
    fputc(']', file);
}

/* ---- the answer: whole, or absent ---- */

static FILE *begin_answer(void) {
    FILE *file = fopen(part, "w");
    if (!file) {
        fprintf(stderr, "cannot write %s: %s\n", part, strerror(errno));
        exit(1);
    }
    fprintf(file, "{\"schema\": \"" SCHEMA "\"");
    return file;
}

static void end_answer(FILE *file) {
    fprintf(file, "}\n");
    bool failed = ferror(file) || fflush(file) || fsync(fileno(file));
    if (fclose(file) || failed || rename(part, options.out)) {
        fprintf(stderr, "cannot write %s: %s\n", options.out, strerror(errno));
        unlink(part);
        exit(1);
    }
    part[0] = 0;
}

static void fail(int code, const char *kind, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

static void fail(int code, const char *kind, const char *format, ...) {
    char message[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s: %s\n", kind, message);
    if (part[0]) {
        FILE *file = begin_answer();
        fprintf(file, ", \"error\": {\"kind\": \"%s\", \"message\": ", kind);
        put_string(file, message);
        fputc('}', file);
        end_answer(file);
    }
    exit(code);
}

static void ended(int number) {
    if (part[0]) unlink(part);
    _exit(128 + number);
}

static void check(const char *kind, OrtStatus *status) {
    if (!status) return;
    if (ort->GetErrorCode(status) == ORT_EP_FAIL) kind = "provider";
    fail(1, kind, "%s", ort->GetErrorMessage(status));
}

static void *need(void *memory) {
    if (!memory) fail(1, "memory", "the system gives no more memory");
    return memory;
}

/* ---- what the system tells ---- */

static bool read_line(const char *path, char *line, size_t size) {
    FILE *file = fopen(path, "r");
    bool told = file && fgets(line, (int)size, file);
    if (file) fclose(file);
    if (told) line[strcspn(line, "\r\n")] = 0;
    return told && line[0];
}

static bool read_number(const char *path, double *value) {
    char line[64], *end;
    if (!read_line(path, line, sizeof line)) return false;
    *value = strtod(line, &end);
    return end != line;
}

static bool read_of_core(int core, const char *what, char *line, size_t size) {
    char path[256];
    snprintf(path, sizeof path, CORES "/cpu%d/cpufreq/%s", core, what);
    return read_line(path, line, size);
}

static bool clock_of_core(int core, const char *what, double *hertz) {
    char path[256];
    snprintf(path, sizeof path, CORES "/cpu%d/cpufreq/%s", core, what);
    if (!read_number(path, hertz)) return false;
    *hertz *= 1e3; /* the kernel counts in kHz */
    return true;
}

/* Return whether a sensor tells a temperature. The kernel says thousandths of a degree, some
 * vendors' sensors tenths or whole degrees; what is switched off shows values beyond any phone's. */
static bool sensor(const char *zone, double *celsius) {
    char path[512];
    snprintf(path, sizeof path, SYSFS "/class/thermal/%s/temp", zone);
    if (!read_number(path, celsius)) return false;
    if (*celsius > 1000 || *celsius < -1000)
        *celsius /= 1000;
    else if (*celsius > 200)
        *celsius /= 10;
    return -30 < *celsius && *celsius < 150 && *celsius != 0;
}

/* Write all sensors' temperatures to a file, if given one, and return whether there are any. */
static bool sensors(FILE *file, double *hottest) {
    DIR *folder = opendir(SYSFS "/class/thermal");
    bool any = false;
    *hottest = -300;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[512], type[128] = "";
        double celsius;
        if (strncmp(entry->d_name, "thermal_zone", 12) || strlen(entry->d_name) > 32) continue;
        if (!sensor(entry->d_name, &celsius)) continue;
        if (celsius > *hottest) *hottest = celsius;
        if (file) {
            char name[192];
            snprintf(path, sizeof path, SYSFS "/class/thermal/%s/type", entry->d_name);
            read_line(path, type, sizeof type);
            snprintf(name, sizeof name, "%.32s %s", entry->d_name, type);
            if (any) fputs(", ", file);
            put_string(file, name);
            fprintf(file, ": %.4g", celsius);
        }
        any = true;
    }
    if (folder) closedir(folder);
    return any;
}

static char *state(void) {
    char *text = NULL;
    size_t size;
    double hottest, hertz;
    cpu_set_t allowed;
    FILE *file = need(open_memstream(&text, &size));
    fputs("{\"temperature_c\": {", file);
    sensors(file, &hottest);
    fputs("}, \"frequency_hz\": {", file);
    const char *comma = "";
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &allowed) && clock_of_core(core, "scaling_cur_freq", &hertz)) {
            fprintf(file, "%s\"%d\": %.9g", comma, core, hertz);
            comma = ", ";
        }
    fputs("}}", file);
    fclose(file);
    return need(text);
}

static void put_cores(void) {
    cpu_set_t allowed;
    const char *comma = "";
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        double hertz;
        char governor[64];
        if (!CPU_ISSET(core, &allowed)) continue;
        printf("%s{\"index\": %d", comma, core);
        if (clock_of_core(core, "cpuinfo_max_freq", &hertz)) printf(", \"most_hz\": %.9g", hertz);
        if (clock_of_core(core, "scaling_max_freq", &hertz)) printf(", \"limit_hz\": %.9g", hertz);
        if (read_of_core(core, "scaling_governor", governor, sizeof governor)) {
            printf(", \"governor\": ");
            put_string(stdout, governor);
        }
        putchar('}');
        comma = ", ";
    }
}

static void put_cpu(void) {
    char line[256];
    if (read_line("/proc/device-tree/model", line, sizeof line)) {
        put_string(stdout, line);
        return;
    }
    FILE *file = fopen("/proc/cpuinfo", "r");
    const char *model = "";
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        char *value = strchr(line, ':');
        if (value && (!strncmp(line, "model name", 10) || !strncmp(line, "Hardware", 8))) {
            model = value + 1 + strspn(value + 1, " ");
            break;
        }
    }
    if (file) fclose(file);
    put_string(stdout, model);
}

static void environment(void) {
    struct utsname system;
    char **providers, about[256];
    int count;
    uname(&system);
    printf("{\"schema\": \"" SCHEMA "\", \"runtime\": ");
    snprintf(about, sizeof about, "onnxruntime %s", OrtGetApiBase()->GetVersionString());
    put_string(stdout, about);
    printf(", \"machine\": ");
    put_string(stdout, system.machine);
    printf(", \"system\": ");
    snprintf(about, sizeof about, "%s %s", system.sysname, system.release);
    put_string(stdout, about);
    printf(", \"cpu\": ");
    put_cpu();
    printf(", \"providers\": [");
    check("load", ort->GetAvailableProviders(&providers, &count));
    for (int i = 0; i < count; i++) {
        if (i) fputs(", ", stdout);
        put_string(stdout, providers[i]);
    }
    printf("], \"cores\": [");
    put_cores();
    printf("]}\n");
}

/* ---- options ---- */

static void parse(int count, char **words) {
    const struct {
        const char *name;
        const char **text;
        double *number;
        double least;
    } known[] = {
        {"--model", &options.model, NULL, 0},
        {"--out", &options.out, NULL, 0},
        {"--provider", &options.provider, NULL, 0},
        {"--optimization", &options.optimization, NULL, 0},
        {"--cores", &options.cores, NULL, 0},
        {"--profile", &options.profile, NULL, 0},
        {"--inputs", &options.inputs, NULL, 0},
        {"--outputs", &options.outputs, NULL, 0},
        {"--threads", NULL, &options.threads, 1},
        {"--warm-up", NULL, &options.warm_up, 0},
        {"--calm-runs", NULL, &options.calm_runs, 1},
        {"--most-runs", NULL, &options.most_runs, 1},
        {"--least-s", NULL, &options.least_s, 0},
        {"--most-s", NULL, &options.most_s, 0},
        {"--cool-down-c", NULL, &options.cool_down_c, 0},
        {"--cool-down-most-s", NULL, &options.cool_down_most_s, 0},
    };
    const size_t all = sizeof known / sizeof *known;
    for (int i = 0; i < count; i += 2) {
        size_t k = 0;
        while (k < all && strcmp(words[i], known[k].name)) k++;
        if (k == all) fail(2, "usage", "there is no option %s", words[i]);
        if (i + 1 == count) fail(2, "usage", "%s needs a value", words[i]);
        if (known[k].text) {
            *known[k].text = words[i + 1];
            continue;
        }
        char *end;
        double value = strtod(words[i + 1], &end);
        if (end == words[i + 1] || *end || !(value >= known[k].least))
            fail(2, "usage", "%s is '%s'", words[i], words[i + 1]);
        *known[k].number = value;
    }
    if (!options.model || !options.out) fail(2, "usage", "give --model and --out");
    if (strcmp(options.provider, "cpu") && strcmp(options.provider, "xnnpack"))
        fail(2, "usage", "--provider is '%s'; known are cpu, xnnpack", options.provider);
    if (strcmp(options.optimization, "all") && strcmp(options.optimization, "basic"))
        fail(2, "usage", "--optimization is '%s'; known are all, basic", options.optimization);
}

/* Stay on the cores asked for; threads that are started later inherit it. */
static void pin(void) {
    cpu_set_t wanted;
    const char *at = options.cores;
    if (!*at) return;
    CPU_ZERO(&wanted);
    while (*at) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        if (end == at) fail(2, "usage", "--cores is '%s'", options.cores);
        if (*end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
            if (end == at) fail(2, "usage", "--cores is '%s'", options.cores);
        }
        if (first < 0 || last >= CPU_SETSIZE || (*end && (*end != ',' || !end[1])))
            fail(2, "usage", "--cores is '%s'", options.cores);
        for (long core = first; core <= last; core++) CPU_SET((int)core, &wanted);
        at = *end ? end + 1 : end;
    }
    if (sched_setaffinity(0, sizeof wanted, &wanted))
        fail(1, "run", "the system does not let it run on the cores %s: %s", options.cores,
             strerror(errno));
}

static void hold_lock(void) {
    int lock = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) fail(1, "run", "cannot write the file 'lock': %s", strerror(errno));
    /* A runner that is being ended has it a moment longer. */
    for (int i = 0; flock(lock, LOCK_EX | LOCK_NB); i++) {
        if (i == 20) fail(75, "busy", "another runner measures here");
        usleep(100000);
    }
    /* The descriptor stays open: the system gives the lock back, however this process ends. */
}

/* ---- the model ---- */

/* Return about normal numbers, the same on each machine: twelve uniform ones added up. */
static float normal(uint64_t *seed) {
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(*seed >> 33);
    }
    return (float)(sum / 2147483648.0 - 6.0);
}

static void provide(OrtSessionOptions *session_options) {
    if (!strcmp(options.provider, "cpu")) return;
    char threads[16];
    const char *keys[] = {"intra_op_num_threads"}, *values[] = {threads};
    snprintf(threads, sizeof threads, "%d", (int)options.threads);
    check("provider", ort->SessionOptionsAppendExecutionProvider(session_options, "XNNPACK", keys,
                                                                 values, 1));
}

static OrtSession *load(OrtEnv *env) {
    OrtSessionOptions *given;
    OrtSession *session;
    GraphOptimizationLevel level = strcmp(options.optimization, "all") ? ORT_ENABLE_BASIC
                                                                       : ORT_ENABLE_ALL;
    check("load", ort->CreateSessionOptions(&given));
    check("load", ort->SetIntraOpNumThreads(given, (int)options.threads));
    check("load", ort->SetInterOpNumThreads(given, 1));
    check("load", ort->SetSessionGraphOptimizationLevel(given, level));
    /* Threads that spin while they wait would count as CPU time of the model. */
    check("load", ort->AddSessionConfigEntry(given, "session.intra_op.allow_spinning", "0"));
    if (options.profile) check("load", ort->EnableProfiling(given, options.profile));
    provide(given);
    check("load", ort->CreateSession(env, options.model, given, &session));
    ort->ReleaseSessionOptions(given);
    return session;
}

static size_t fixed_size(const OrtTypeInfo *type, const char *name, int64_t *dims, size_t *rank) {
    const OrtTensorTypeAndShapeInfo *info;
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check("load", ort->CastTypeInfoToTensorInfo(type, &info));
    if (info) check("load", ort->GetTensorElementType(info, &element));
    if (element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
        fail(1, "load", "the model's input '%s' is not float", name);
    check("load", ort->GetDimensionsCount(info, rank));
    if (*rank > 8) fail(1, "load", "the model's input '%s' has %zu dimensions", name, *rank);
    check("load", ort->GetDimensions(info, dims, *rank));
    size_t count = 1;
    for (size_t i = 0; i < *rank; i++) {
        if (dims[i] <= 0)
            fail(1, "load", "the model's input '%s' has an open shape: export it with fixed sizes",
                 name);
        if (count > SIZE_MAX / sizeof(float) / (size_t)dims[i]) need(NULL);
        count *= (size_t)dims[i];
    }
    return count;
}

static void fill(float *values, size_t count, FILE *file, uint64_t *seed) {
    if (file && fread(values, sizeof *values, count, file) != count)
        fail(2, "usage", "%s does not hold as many values as the inputs take", options.inputs);
    for (size_t i = 0; !file && i < count; i++) values[i] = normal(seed);
}

static Model prepare(OrtSession *session) {
    Model model = {.session = session};
    OrtMemoryInfo *memory;
    FILE *file = NULL;
    uint64_t seed = 0;
    if (options.inputs && !(file = fopen(options.inputs, "rb")))
        fail(2, "usage", "cannot read %s: %s", options.inputs, strerror(errno));
    check("load", ort->GetAllocatorWithDefaultOptions(&model.allocator));
    check("load", ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check("load", ort->SessionGetInputCount(session, &model.input_count));
    check("load", ort->SessionGetOutputCount(session, &model.output_count));
    if (model.input_count > MOST_TENSORS || model.output_count > MOST_TENSORS)
        fail(1, "load", "the model has more than %d inputs or outputs", MOST_TENSORS);
    for (size_t i = 0; i < model.input_count; i++) {
        OrtTypeInfo *type;
        int64_t dims[8];
        size_t rank;
        check("load", ort->SessionGetInputName(session, i, model.allocator,
                                               &model.input_names[i]));
        check("load", ort->SessionGetInputTypeInfo(session, i, &type));
        size_t count = fixed_size(type, model.input_names[i], dims, &rank);
        float *values = need(malloc(count * sizeof *values + 1));
        fill(values, count, file, &seed);
        check("run", ort->CreateTensorWithDataAsOrtValue(
                         memory, values, count * sizeof *values, dims, rank,
                         ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &model.inputs[i]));
        ort->ReleaseTypeInfo(type);
    }
    for (size_t i = 0; i < model.output_count; i++)
        check("load", ort->SessionGetOutputName(session, i, model.allocator,
                                                &model.output_names[i]));
    if (file) fclose(file);
    ort->ReleaseMemoryInfo(memory);
    return model;
}

static void run(const Model *model, OrtValue **outputs) {
    OrtValue *made[MOST_TENSORS] = {NULL};
    OrtValue **into = outputs ? outputs : made;
    check("run", ort->Run(model->session, NULL, (const char *const *)model->input_names,
                          (const OrtValue *const *)model->inputs, model->input_count,
                          (const char *const *)model->output_names, model->output_count, into));
    for (size_t i = 0; !outputs && i < model->output_count; i++) ort->ReleaseValue(made[i]);
}

static void write_outputs(const Model *model) {
    OrtValue *values[MOST_TENSORS] = {NULL};
    FILE *file = fopen(options.outputs, "wb");
    if (!file) fail(2, "usage", "cannot write %s: %s", options.outputs, strerror(errno));
    run(model, values);
    for (size_t i = 0; i < model->output_count; i++) {
        OrtTensorTypeAndShapeInfo *info;
        ONNXTensorElementDataType element;
        size_t count;
        void *data;
        check("run", ort->GetTensorTypeAndShape(values[i], &info));
        check("run", ort->GetTensorElementType(info, &element));
        check("run", ort->GetTensorShapeElementCount(info, &count));
        if (element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
            fail(1, "run", "the model's output '%s' is not float", model->output_names[i]);
        check("run", ort->GetTensorMutableData(values[i], &data));
        if (fwrite(data, sizeof(float), count, file) != count)
            fail(1, "run", "cannot write %s: %s", options.outputs, strerror(errno));
        ort->ReleaseTensorTypeAndShapeInfo(info);
        ort->ReleaseValue(values[i]);
    }
    if (fclose(file)) fail(1, "run", "cannot write %s: %s", options.outputs, strerror(errno));
}

/* ---- timing ---- */

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static long preemptions(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nivcsw;
}

static void keep(Samples *samples, double wall_s, double cpu_s, long preempted) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 64;
        samples->wall_s = need(realloc(samples->wall_s, samples->room * sizeof(double)));
        samples->cpu_s = need(realloc(samples->cpu_s, samples->room * sizeof(double)));
        samples->preempted = need(realloc(samples->preempted, samples->room * sizeof(long)));
    }
    samples->wall_s[samples->count] = wall_s;
    samples->cpu_s[samples->count] = cpu_s;
    samples->preempted[samples->count++] = preempted;
}

/* Run until enough runs were calm and enough time is over, but not for ever. */
static Samples timed(const Model *model) {
    clockid_t cpu_clock = options.threads > 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID;
    Samples samples = {0};
    double calm = 0;
    for (double i = 0; i < options.warm_up; i++) run(model, NULL);
    double began = now(CLOCK_MONOTONIC);
    for (;;) {
        long switches = preemptions();
        double cpu = now(cpu_clock), wall = now(CLOCK_MONOTONIC);
        run(model, NULL);
        double wall_end = now(CLOCK_MONOTONIC), cpu_end = now(cpu_clock);
        double wall_s = wall_end - wall, cpu_s = (cpu_end - cpu) / options.threads;
        switches = preemptions() - switches;
        keep(&samples, wall_s, cpu_s, switches);
        calm += options.threads > 1 ? switches == 0 : wall_s <= CONTENDED * cpu_s;
        double spent = wall_end - began;
        bool enough = calm >= options.calm_runs && spent >= options.least_s;
        bool long_enough = (double)samples.count >= options.most_runs &&
                           spent >= 3 * options.least_s;
        if (enough || long_enough || spent >= options.most_s) return samples;
    }
}

/* Return how long it waited, or less than 0 where there is no sensor. */
static double cool_down(bool *reached) {
    double hottest, began = now(CLOCK_MONOTONIC);
    for (;;) {
        if (!sensors(NULL, &hottest)) return -1;
        double waited = now(CLOCK_MONOTONIC) - began;
        *reached = hottest < options.cool_down_c;
        if (*reached || waited >= options.cool_down_most_s) return waited;
        double left = options.cool_down_most_s - waited;
        usleep((useconds_t)(1e6 * (left < POLL_S ? left : POLL_S)) + 1000);
    }
}

static void answer(const Samples *samples, const char *before, const char *after,
                   const char *profile, double cooled_s, bool reached) {
    FILE *file = begin_answer();
    put_times(file, "wall_s", samples->wall_s, samples->count);
    put_times(file, "cpu_s", samples->cpu_s, samples->count);
    fprintf(file, ", \"preempted\": [");
    for (size_t i = 0; i < samples->count; i++)
        fprintf(file, "%s%ld", i ? ", " : "", samples->preempted[i]);
    fprintf(file, "], \"before\": %s, \"after\": %s", before, after);
    if (profile) {
        fprintf(file, ", \"profile\": ");
        put_string(file, profile);
    }
    if (cooled_s >= 0)
        fprintf(file, ", \"cool_down\": {\"waited_s\": %.3f, \"reached\": %s}", cooled_s,
                reached ? "true" : "false");
    end_answer(file);
}

int main(int count, char **words) {
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    bool about = count == 2 && !strcmp(words[1], "--environment");
    if (!about) {
        /* Known early, so that any other mistake can be told in the answer. */
        for (int i = 1; i + 1 < count; i++)
            if (!strcmp(words[i], "--out")) options.out = words[i + 1];
        if (options.out) snprintf(part, sizeof part, "%s.part", options.out);
        signal(SIGTERM, ended);
        signal(SIGINT, ended);
        signal(SIGHUP, ended);
    }
    if (!ort)
        fail(2, "usage", "the library is onnxruntime %s, older than the header (API %d) that this "
             "was built with", OrtGetApiBase()->GetVersionString(), ORT_API_VERSION);
    if (about) {
        environment();
        return 0;
    }
    parse(count - 1, words + 1);
    hold_lock();
    pin();
    bool reached = false;
    double cooled_s = options.cool_down_c > 0 ? cool_down(&reached) : -1;
    OrtEnv *env;
    check("load", ort->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "hwnas", &env));
    check("load", ort->DisableTelemetryEvents(env));
    Model model = prepare(load(env));
    char *before = state(), *profile = NULL;
    Samples samples = timed(&model);
    if (options.profile) {
        check("run", ort->SessionEndProfiling(model.session, model.allocator, &profile));
        samples = timed(&model); /* profiling has ended: what runs now is undisturbed */
    }
    char *after = state();
    if (options.outputs) write_outputs(&model);
    answer(&samples, before, after, profile, cooled_s, reached);
    /* Nothing is taken apart: the system does that faster, and nothing runs behind the answer. */
    fflush(stdout);
    _exit(0);
}
