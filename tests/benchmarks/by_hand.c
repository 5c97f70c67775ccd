/* Gradients derived by hand: what a kernel can reach that is written for one case alone. */

#include <math.h>
#include <stddef.h>
#include <string.h>

#define EACH_ROW _Pragma("omp parallel for reduction(+ : total) schedule(static)")

double logsumexp(const float *x, float *grad, ptrdiff_t rows, ptrdiff_t n) {
    double total = 0;
    EACH_ROW
    for (ptrdiff_t i = 0; i < rows; i++) {
        const float *a = x + i * n;
        float *g = grad + i * n, top = a[0], sum = 0;
        for (ptrdiff_t j = 0; j < n; j++) top = a[j] > top ? a[j] : top;
        for (ptrdiff_t j = 0; j < n; j++) sum += g[j] = expf(a[j] - top);
        for (ptrdiff_t j = 0; j < n; j++) g[j] *= 1 / sum;
        total += top + logf(sum);
    }
    return total;
}

double cross_entropy(const float *x, const ptrdiff_t *labels, float *grad, ptrdiff_t rows,
                     ptrdiff_t n) {
    double total = 0;
    EACH_ROW
    for (ptrdiff_t i = 0; i < rows; i++) {
        const float *a = x + i * n;
        float *g = grad + i * n, top = a[0], sum = 0;
        for (ptrdiff_t j = 0; j < n; j++) top = a[j] > top ? a[j] : top;
        for (ptrdiff_t j = 0; j < n; j++) sum += g[j] = expf(a[j] - top);
        for (ptrdiff_t j = 0; j < n; j++) g[j] *= 1 / (sum * rows);
        g[labels[i]] -= 1.0f / rows;
        total += top + logf(sum) - a[labels[i]];
    }
    return total / rows;
}

/* y = (x - mean) / deviation * gain + bias; the loss is the sum of y * weight. */
double layer_norm(const float *x, const float *gain, const float *bias, const float *weight,
                  float *dx, float *dgain, float *dbias, ptrdiff_t rows, ptrdiff_t n) {
    double total = 0;
    memset(dgain, 0, n * sizeof(float));
    memset(dbias, 0, n * sizeof(float));
#pragma omp parallel for reduction(+ : total, dgain[:n], dbias[:n]) schedule(static)
    for (ptrdiff_t i = 0; i < rows; i++) {
        const float *a = x + i * n, *w = weight + i * n;
        float *d = dx + i * n, sum = 0, squares = 0, along = 0, mean_of = 0, value = 0;
        for (ptrdiff_t j = 0; j < n; j++) sum += a[j];
        float mean = sum / n;
        for (ptrdiff_t j = 0; j < n; j++) squares += (a[j] - mean) * (a[j] - mean);
        float scale = 1 / sqrtf(squares / n + 1e-5f);
        for (ptrdiff_t j = 0; j < n; j++) {
            float y = (a[j] - mean) * scale, c = w[j] * gain[j];
            value += (y * gain[j] + bias[j]) * w[j];
            dgain[j] += w[j] * y;
            dbias[j] += w[j];
            mean_of += c;
            along += c * y;
        }
        for (ptrdiff_t j = 0; j < n; j++) {
            float y = (a[j] - mean) * scale;
            d[j] = scale * (w[j] * gain[j] - mean_of / n - y * along / n);
        }
        total += value;
    }
    return total;
}

/* The price of a call struck at 100, at a rate of 0.02, and its three derivatives. */
#define BLACK_SCHOLES(NAME, T, ERFC, EXP, LOG, SQRT)                                              \
    void NAME(const T *spot, const T *volatility, const T *maturity, T *price, T *delta, T *vega, \
              T *theta, ptrdiff_t n) {                                                            \
        _Pragma("omp parallel for simd schedule(static)") for (ptrdiff_t i = 0; i < n; i++) {     \
            T s = spot[i], v = volatility[i], m = maturity[i], root = SQRT(m);                    \
            T d1 = (LOG(s / 100) + ((T)0.02 + v * v / 2) * m) / (v * root), d2 = d1 - v * root;   \
            T n1 = ERFC(-(T)0.7071067811865476 * d1) / 2;                                         \
            T n2 = ERFC(-(T)0.7071067811865476 * d2) / 2;                                         \
            T density = (T)0.3989422804014327 * EXP(-d1 * d1 / 2);                                \
            T discounted = 100 * EXP(-(T)0.02 * m);                                               \
            price[i] = s * n1 - discounted * n2;                                                  \
            delta[i] = n1;                                                                        \
            vega[i] = s * density * root;                                                         \
            theta[i] = s * density * v / (2 * root) + (T)0.02 * discounted * n2;                  \
        }                                                                                         \
    }
BLACK_SCHOLES(black_scholes_f64, double, erfc, exp, log, sqrt)
BLACK_SCHOLES(black_scholes_f32, float, erfcf, expf, logf, sqrtf)

#define BLOCK 64
double logistic(const double *w, const double *x, const double *y, double *grad, ptrdiff_t rows,
                ptrdiff_t n) {
    double total = 0;
    memset(grad, 0, n * sizeof(double));
#pragma omp parallel for reduction(+ : total, grad[:n]) schedule(static)
    for (ptrdiff_t first = 0; first < rows; first += BLOCK) {
        ptrdiff_t count = rows - first < BLOCK ? rows - first : BLOCK;
        double z[BLOCK], slope[BLOCK];
        for (ptrdiff_t i = 0; i < count; i++) {
            const double *a = x + (first + i) * n;
            double sum = 0;
            for (ptrdiff_t j = 0; j < n; j++) sum += a[j] * w[j];
            z[i] = sum;
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            double e = exp(-fabs(z[i])), positive = z[i] > 0 ? z[i] : 0;
            slope[i] = (z[i] > 0 ? 1 : e) / (1 + e) - y[first + i];
            total += positive + log(1 + e) - y[first + i] * z[i];
        }
        for (ptrdiff_t i = 0; i < count; i++)
            for (ptrdiff_t j = 0; j < n; j++) grad[j] += slope[i] * x[(first + i) * n + j];
    }
    for (ptrdiff_t j = 0; j < n; j++) grad[j] /= rows;
    return total / rows;
}

double embedding(const float *table, const ptrdiff_t *places, const float *weight, float *grad,
                 ptrdiff_t entries, ptrdiff_t n) {
    const ptrdiff_t rows = 4096;
    double total = 0;
#pragma omp parallel for schedule(static)
    for (ptrdiff_t part = 0; part < 2; part++) {
        ptrdiff_t half = entries * n / 2;
        memset(grad + part * half, 0, half * sizeof(float));
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        const float *a = table + places[i] * n, *w = weight + i * n;
        float *g = grad + places[i] * n, value = 0;
        for (ptrdiff_t j = 0; j < n; j++) {
            float y = tanhf(a[j]);
            value += y * w[j];
            g[j] += (1 - y * y) * w[j];
        }
        total += value;
    }
    return total;
}

/* exp(-x*x/2) * sin(3x+1) + x/10, summed, and its derivative. */
double chain(const float *x, float *grad, ptrdiff_t n) {
    double total = 0;
#pragma omp parallel for reduction(+ : total) schedule(static)
    for (ptrdiff_t first = 0; first < n; first += 1024) {
        ptrdiff_t last = first + 1024 < n ? first + 1024 : n;
        float sum = 0, sines[1024];
        /* Apart, for together they become calls of sincosf, which has no vectors. */
        for (ptrdiff_t i = first; i < last; i++) sines[i - first] = sinf(3 * x[i] + 1);
        for (ptrdiff_t i = first; i < last; i++) {
            float e = expf(-x[i] * x[i] / 2), s = sines[i - first], c = cosf(3 * x[i] + 1);
            sum += e * s + 0.1f * x[i];
            grad[i] = e * (3 * c - x[i] * s) + 0.1f;
        }
        total += sum;
    }
    return total;
}

#ifdef __AVX512F__
#define LANES 8
#else
#define LANES 4
#endif
#define SUMS 12
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* Multiply-adds of one core that wait for nothing; the operations that were done. */
double multiply_adds(ptrdiff_t steps, double *result) {
    typedef double vector __attribute__((vector_size(8 * LANES)));
    vector a, b;
    for (int i = 0; i < LANES; i++) a[i] = 1e-3 * i, b[i] = 1 - 1e-3 * i;
#define START(I) vector s##I = b + I;
#define STEP(I)         \
    s##I = s##I * a + b; \
    __asm__("" : "+x"(s##I));
#define KEEP(I) memcpy(result + I * LANES, &s##I, sizeof(vector));
    EACH(START)
    for (ptrdiff_t k = 0; k < steps; k++) {
        EACH(STEP)
    }
    EACH(KEEP)
    return 2.0 * LANES * SUMS * steps;
}
