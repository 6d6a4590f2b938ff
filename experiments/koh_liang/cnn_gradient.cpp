// Loss and gradient of the network of cnn.py, for k parameter vectors on the same images.
//
// torch's convolutions are made for many channels; with 8 of them most of a step is spent in copies. Here 16 images
// (8 in double precision) go through the whole network at a time, one in each lane of a vector, so that all they need
// stays in the cache.
// Layouts: activations [channel][row][column] of vectors; weights in θ as torch keeps them [out][in][row][column].

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {

constexpr int CLASSES = 10, PIXELS = 28 * 28;

template <typename Real>
struct Network {
    static constexpr int LANES = 64 / sizeof(Real);
    typedef Real Vec __attribute__((vector_size(64)));

    static void tanh_of(Vec& v) {
        for (int i = 0; i < LANES; i++) v[i] = std::tanh(v[i]);
    }

    static void exp_of(Vec& v) {
        for (int i = 0; i < LANES; i++) v[i] = std::exp(v[i]);
    }

    static double sum(const Vec& v) {
        double total = 0;
        for (int i = 0; i < LANES; i++) total += v[i];
        return total;
    }

    // A convolution without padding, and tanh. Its weights start at OFFSET in θ, its biases follow.
    template <int IN, int OUT, int SIDE, int SIZE, int STRIDE, int OFFSET>
    struct Layer {
        static constexpr int IN_SIDE = SIDE, OUT_SIDE = (SIDE - SIZE) / STRIDE + 1, TAPS = SIZE * SIZE;
        static constexpr int BIAS = OFFSET + OUT * IN * TAPS, END = BIAS + OUT;
        using Input = Vec[IN][SIDE][SIDE];
        using Output = Vec[OUT][OUT_SIDE][OUT_SIDE];

        Real weight[IN][TAPS][OUT];

        explicit Layer(const Real* theta) {
            for (int o = 0; o < OUT; o++)
                for (int c = 0; c < IN; c++)
                    for (int t = 0; t < TAPS; t++) weight[c][t][o] = theta[OFFSET + (o * IN + c) * TAPS + t];
        }

        void forward(const Real* theta, const Input& x, Output& y) const {
            for (int row = 0; row < OUT_SIDE; row++)
                for (int column = 0; column < OUT_SIDE; column += 2) {  // every OUT_SIDE is even
                    Vec left[OUT], right[OUT];
                    for (int o = 0; o < OUT; o++) left[o] = right[o] = Vec{} + theta[BIAS + o];
                    for (int c = 0; c < IN; c++)
                        for (int t = 0; t < TAPS; t++) {
                            const Vec* at = &x[c][row * STRIDE + t / SIZE][column * STRIDE + t % SIZE];
                            for (int o = 0; o < OUT; o++) {
                                left[o] += at[0] * weight[c][t][o];
                                right[o] += at[STRIDE] * weight[c][t][o];
                            }
                        }
                    for (int o = 0; o < OUT; o++) {
                        tanh_of(left[o]);
                        tanh_of(right[o]);
                        y[o][row][column] = left[o];
                        y[o][row][column + 1] = right[o];
                    }
                }
        }

        // From the slope at the output (of tanh; used up) to those of the weights and, if asked, at the input.
        void backward(const Input& x, const Output& y, Output& slope, double* gradient, Input* before) const {
            for (int o = 0; o < OUT; o++) {
                Vec total{};
                for (int row = 0; row < OUT_SIDE; row++)
                    for (int column = 0; column < OUT_SIDE; column++) {
                        slope[o][row][column] *= 1 - y[o][row][column] * y[o][row][column];
                        total += slope[o][row][column];
                    }
                gradient[BIAS + o] += sum(total);
            }
            for (int c = 0; c < IN; c++)
                for (int i = 0; i < SIZE; i++) {
                    Vec total[SIZE][OUT] = {};
                    for (int row = 0; row < OUT_SIDE; row++)
                        for (int column = 0; column < OUT_SIDE; column++)
                            for (int o = 0; o < OUT; o++)
                                for (int j = 0; j < SIZE; j++)
                                    total[j][o] += slope[o][row][column] * x[c][row * STRIDE + i][column * STRIDE + j];
                    for (int o = 0; o < OUT; o++)
                        for (int j = 0; j < SIZE; j++)
                            gradient[OFFSET + (o * IN + c) * TAPS + i * SIZE + j] += sum(total[j][o]);
                }
            if (!before) return;
            std::memset(before, 0, sizeof(Input));
            for (int row = 0; row < OUT_SIDE; row++)
                for (int column = 0; column < OUT_SIDE; column++) {
                    Vec at[OUT];
                    for (int o = 0; o < OUT; o++) at[o] = slope[o][row][column];
                    for (int c = 0; c < IN; c++)
                        for (int t = 0; t < TAPS; t++) {
                            Vec& into = (*before)[c][row * STRIDE + t / SIZE][column * STRIDE + t % SIZE];
                            Vec total = into;
                            for (int o = 0; o < OUT; o++) total += at[o] * weight[c][t][o];
                            into = total;
                        }
                }
        }
    };

    using First = Layer<1, 8, 28, 3, 1, 0>;
    using Second = Layer<8, 8, 26, 3, 2, First::END>;
    using Third = Layer<8, 8, 12, 3, 1, Second::END>;
    using Fourth = Layer<8, 8, 10, 3, 2, Third::END>;
    using Fifth = Layer<8, 8, 4, 3, 1, Fourth::END>;
    using Sixth = Layer<8, 10, 2, 1, 1, Fifth::END>;
    static constexpr int HEAD = Sixth::END, P = HEAD + CLASSES * CLASSES + CLASSES;

    struct Activations {
        typename First::Input x;
        typename First::Output first;
        typename Second::Output second;
        typename Third::Output third;
        typename Fourth::Output fourth;
        typename Fifth::Output fifth;
        typename Sixth::Output sixth;
    };

    // Mean over the last layer's four places, a linear layer, cross-entropy. Writes the slope at the last layer.
    static double head(const Real* theta, const typename Sixth::Output& y, const int64_t* labels, const Vec& weights,
                       typename Sixth::Output& slope, double* gradient) {
        const Real *matrix = theta + HEAD, *bias = matrix + CLASSES * CLASSES;
        Vec mean[CLASSES], logits[CLASSES], largest, total{}, losses{};
        for (int c = 0; c < CLASSES; c++) mean[c] = (y[c][0][0] + y[c][0][1] + y[c][1][0] + y[c][1][1]) / 4;
        for (int o = 0; o < CLASSES; o++) {
            logits[o] = Vec{} + bias[o];
            for (int c = 0; c < CLASSES; c++) logits[o] += mean[c] * matrix[o * CLASSES + c];
            largest = o ? (logits[o] > largest ? logits[o] : largest) : logits[0];
        }
        for (int o = 0; o < CLASSES; o++) logits[o] -= largest;
        for (int i = 0; i < LANES; i++) losses[i] = -logits[labels[i]][i];
        for (int o = 0; o < CLASSES; o++) {
            exp_of(logits[o]);
            total += logits[o];
        }
        for (int o = 0; o < CLASSES; o++) logits[o] *= weights / total;
        for (int i = 0; i < LANES; i++) {
            losses[i] = (losses[i] + std::log(total[i])) * weights[i];
            logits[labels[i]][i] -= weights[i];
        }
        Vec back[CLASSES] = {};
        for (int o = 0; o < CLASSES; o++) {
            for (int c = 0; c < CLASSES; c++) {
                gradient[HEAD + o * CLASSES + c] += sum(logits[o] * mean[c]);
                back[c] += logits[o] * matrix[o * CLASSES + c];
            }
            gradient[HEAD + CLASSES * CLASSES + o] += sum(logits[o]);
        }
        for (int c = 0; c < CLASSES; c++)
            for (int place = 0; place < 4; place++) slope[c][place / 2][place % 2] = back[c] / 4;
        return sum(losses);
    }

    // θ [k][P], images [n][784], labels [n], weights [k][n] -> Σ w ℓ [k] and its gradients [k][P].
    static void run(const Real* params, int64_t k, const Real* images, const int64_t* labels,
                        const Real* weights, int64_t n, double* losses, double* gradients) {
        auto now = std::make_unique<Activations>();
        auto slopes = std::make_unique<Activations>();
        std::memset(losses, 0, k * sizeof(double));
        std::memset(gradients, 0, k * P * sizeof(double));
        for (int64_t start = 0; start < n; start += LANES) {
            int64_t target[LANES] = {};
            for (int i = 0; i < LANES; i++) {
                int64_t image = start + i < n ? start + i : n - 1;  // beyond the end: any image, at weight 0
                target[i] = labels[image];
                for (int pixel = 0; pixel < PIXELS; pixel++)
                    now->x[0][pixel / 28][pixel % 28][i] = images[image * PIXELS + pixel];
            }
            for (int64_t model = 0; model < k; model++) {
                const Real* theta = params + model * P;
                double* gradient = gradients + model * P;
                Vec weight{};
                for (int i = 0; i < LANES && start + i < n; i++) weight[i] = weights[model * n + start + i];
                First first(theta);
                Second second(theta);
                Third third(theta);
                Fourth fourth(theta);
                Fifth fifth(theta);
                Sixth sixth(theta);
                first.forward(theta, now->x, now->first);
                second.forward(theta, now->first, now->second);
                third.forward(theta, now->second, now->third);
                fourth.forward(theta, now->third, now->fourth);
                fifth.forward(theta, now->fourth, now->fifth);
                sixth.forward(theta, now->fifth, now->sixth);
                losses[model] += head(theta, now->sixth, target, weight, slopes->sixth, gradient);
                sixth.backward(now->fifth, now->sixth, slopes->sixth, gradient, &slopes->fifth);
                fifth.backward(now->fourth, now->fifth, slopes->fifth, gradient, &slopes->fourth);
                fourth.backward(now->third, now->fourth, slopes->fourth, gradient, &slopes->third);
                third.backward(now->second, now->third, slopes->third, gradient, &slopes->second);
                second.backward(now->first, now->second, slopes->second, gradient, &slopes->first);
                first.backward(now->x, now->first, slopes->first, gradient, nullptr);
            }
        }
    }
};

}  // namespace

extern "C" void in_float32(const float* params, int64_t k, const float* images, const int64_t* labels,
                           const float* weights, int64_t n, double* losses, double* gradients) {
    Network<float>::run(params, k, images, labels, weights, n, losses, gradients);
}

extern "C" void in_float64(const double* params, int64_t k, const double* images, const int64_t* labels,
                           const double* weights, int64_t n, double* losses, double* gradients) {
    Network<double>::run(params, k, images, labels, weights, n, losses, gradients);
}
