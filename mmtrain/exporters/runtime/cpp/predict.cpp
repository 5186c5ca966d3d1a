// Boxes in an image with ONNX Runtime's C++ interface: reads a binary PPM (P6), prints one box per line.
//
//     predict MODEL.onnx IMAGE.ppm [least score = 0.3] [IoU, else the model's own]
//
// For models of boxes whose file gives every position (outputs `boxes` and `scores`) and one fixed input size; how
// to resize, pad, normalise and choose is in metadata.json, and in `settings.h` as of this package's model.
// The Python file beside this one knows every kind of model and reads metadata.json itself.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "settings.h"

namespace {

struct Image {
    int width = 0, height = 0;
    std::vector<std::uint8_t> rgb;  // height * width * 3

    float at(int x, int y, int channel) const { return rgb[(static_cast<std::size_t>(y) * width + x) * 3 + channel]; }
};

struct Scale {
    float x, y;  // input pixels per original pixel
};

struct Box {
    float x1, y1, x2, y2, score;
    int label;
};

Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    Image image;
    int most = 0;
    if (!(file >> magic >> image.width >> image.height >> most) || magic != "P6" || most != 255)
        throw std::runtime_error(path + " is no binary PPM of 8 bits");
    file.get();
    image.rgb.resize(static_cast<std::size_t>(image.width) * image.height * 3);
    file.read(reinterpret_cast<char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
    if (!file) throw std::runtime_error(path + " is cut short");
    return image;
}

// Bilinear, with the centres of pixels on each other, as OpenCV's INTER_LINEAR.
float sample(const Image& image, float x, float y, int channel) {
    x = std::clamp(x, 0.0f, static_cast<float>(image.width - 1));
    y = std::clamp(y, 0.0f, static_cast<float>(image.height - 1));
    const int left = static_cast<int>(x), top = static_cast<int>(y);
    const int right = std::min(left + 1, image.width - 1), bottom = std::min(top + 1, image.height - 1);
    const float fx = x - left, fy = y - top;
    const float above = image.at(left, top, channel) * (1 - fx) + image.at(right, top, channel) * fx;
    const float below = image.at(left, bottom, channel) * (1 - fx) + image.at(right, bottom, channel) * fx;
    return above * (1 - fy) + below * fy;
}

// The whole picture, as large as it fits, at the upper left corner: (3, H, W).
Scale prepare(const Image& image, std::vector<float>& input) {
    const float ratio = std::min(static_cast<float>(settings::width) / image.width,
                                 static_cast<float>(settings::height) / image.height);
    const int width = std::max(1, static_cast<int>(image.width * ratio + 0.5f));
    const int height = std::max(1, static_cast<int>(image.height * ratio + 0.5f));
    input.resize(3UL * settings::height * settings::width);
    for (int channel = 0; channel < 3; ++channel) {
        const int source = settings::rgb ? channel : 2 - channel;
        for (int y = 0; y < settings::height; ++y)
            for (int x = 0; x < settings::width; ++x) {
                float value = settings::pad_value[channel];
                if (x < width && y < height)
                    value = std::nearbyint(sample(image, (x + 0.5f) * image.width / width - 0.5f,
                                                  (y + 0.5f) * image.height / height - 0.5f, source));
                input[(static_cast<std::size_t>(channel) * settings::height + y) * settings::width + x] =
                    (value - settings::mean[channel]) / settings::deviation[channel];
            }
    }
    return {static_cast<float>(width) / image.width, static_cast<float>(height) / image.height};
}

float overlap(const Box& a, const Box& b) {
    const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
    const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
    if (width <= 0 || height <= 0) return 0;
    const float shared = width * height;
    return shared / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared);
}

std::vector<Box> suppressed(std::vector<Box> boxes, float most) {
    std::stable_sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.score > b.score; });
    std::vector<Box> kept;
    for (const Box& box : boxes)
        if (std::none_of(kept.begin(), kept.end(), [&](const Box& other) {
                return other.label == box.label && overlap(other, box) > most;
            }))
            kept.push_back(box);
    if (kept.size() > settings::most_objects) kept.resize(settings::most_objects, {});
    return kept;
}

// A box of the input in pixels of the original image.
Box original(const float* corners, Scale scale, float score, int label) {
    std::array<float, 4> sides{corners[0], corners[1], corners[2], corners[3]};
    for (std::size_t at = 0; at < 4; ++at) {
        const float edge = at % 2 ? settings::height : settings::width;
        if (settings::clipped) sides[at] = std::clamp(sides[at], 0.0f, edge);
        sides[at] /= at % 2 ? scale.y : scale.x;
    }
    return {sides[0], sides[1], sides[2], sides[3], score, label};
}

bool large(const Box& box) {
    if (settings::least_side < 0) return true;
    return box.x2 - box.x1 > settings::least_side && box.y2 - box.y1 > settings::least_side;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::cerr << "predict MODEL.onnx IMAGE.ppm [least score] [IoU]\n";
        return 2;
    }
    const float least = argc > 3 ? std::strtof(argv[3], nullptr) : 0.3f;
    const float most = argc > 4 ? std::strtof(argv[4], nullptr) : settings::iou;
    const Image image = read_ppm(argv[2]);
    std::vector<float> input;
    const Scale scale = prepare(image, input);

    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "predict");
    Ort::Session session(environment, argv[1], Ort::SessionOptions{});
    const std::array<std::int64_t, 4> shape{1, 3, settings::height, settings::width};
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto tensor = Ort::Value::CreateTensor<float>(memory, input.data(), input.size(), shape.data(), shape.size());
    const char* inputs[] = {"input"};
    const char* outputs[] = {"boxes", "scores", "factors"};
    auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &tensor, 1, outputs, settings::weighed ? 3 : 2);
    const auto sizes = found[1].GetTensorTypeAndShapeInfo().GetShape();  // (1, positions, classes)
    const float* corners = found[0].GetTensorData<float>();
    const float* scores = found[1].GetTensorData<float>();
    const float* factors = settings::weighed ? found[2].GetTensorData<float>() : nullptr;

    std::vector<Box> boxes;
    for (std::int64_t at = 0; at < sizes[1]; ++at) {
        const float* of_classes = scores + at * sizes[2];
        const std::int64_t surest = std::max_element(of_classes, of_classes + sizes[2]) - of_classes;
        for (std::int64_t label = 0; label < sizes[2]; ++label) {
            if ((settings::one_label && label != surest) || of_classes[label] <= settings::candidate_score) continue;
            const float score = of_classes[label] * (factors ? factors[at] : 1.0f);
            const Box box = original(corners + 4 * at, scale, score, static_cast<int>(label));
            if (score >= least && large(box)) boxes.push_back(box);
        }
    }
    for (const Box& box : suppressed(std::move(boxes), most))
        std::cout << box.label << ' ' << box.score << ' ' << box.x1 << ' ' << box.y1 << ' ' << box.x2 << ' ' << box.y2
                  << '\n';
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
